"""Big Buck Bunny, a ten-minute video: its frames are among the sample photos, its shots are a built-in source.

No installed package has hundreds of unrelated pictures that may be redistributed. The source distribution of moviepy
(58 MB) has this video under CC BY 3.0, with over a hundred shots. pip downloads it once per machine, from the index
that pip is configured for. Its hash is checked, and it is kept as `visual-jigsaw/big-buck-bunny.mp4` in the user's
cache folder (`XDG_CACHE_HOME`). `python -m jigsaw.samples.big_buck_bunny` downloads it ahead of use.

`python -m jigsaw.samples.big_buck_bunny data/big-buck-bunny` cuts it into shots for video puzzles::

    DIR/{train,heldout}/shot-NNN.mp4

A shot runs from one keyframe to the next, which are mostly cuts; nothing is decoded. The held-out shots are a
contiguous part in the middle. A few seconds before and after it are left out, so that no shot is in both splits.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jigsaw.errors import JigsawError
from jigsaw.files import atomic_path
from jigsaw.samples.rendering import disk_errors, split_folders

PACKAGE = "moviepy"
"""Name of the distribution in samples.csv."""

PATH = "docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip/resources/bbb.mp4"
"""Path of the video in the source distribution, as in samples.csv."""

_REQUIREMENT = "moviepy==2.2.1"
_SHA256 = "475fbbf34c4c367998f80c29ea03b15a743941179b12da3373fc6706e68621d0"

DOWNLOAD_SIZE = "58 MB"
"""Size of the source distribution."""


def video_file() -> Path:
    """The path of the downloaded video."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "visual-jigsaw" / "big-buck-bunny.mp4"


def fetch_video() -> Path:
    """The video file (MP4, 1280x720, 24 frames per second), which is downloaded if it is missing or damaged.

    Raises:
        JigsawError: pip is missing or fails, the archive has another content, or the disk cannot be written.
    """
    video = video_file()
    if video.is_file() and _digest(video) == _SHA256:
        return video
    with disk_errors(video, "the video Big Buck Bunny"):
        video.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=video.parent, prefix=".fetch-") as folder:
            extracted = _extract(_download(Path(folder)), Path(folder))
            if _digest(extracted) != _SHA256:
                raise JigsawError(f"the video in {_REQUIREMENT} has another SHA-256 than expected; please report this")
            extracted.replace(video)
    return video


HELDOUT_SECONDS = (300.0, 400.0)
"""Begin and end of the held-out part."""

GAP_SECONDS = 6.0
"""Length of the part that is left out before and after it; more than the longest shot."""

CREDITS_SECONDS = 490.0
"""Begin of the closing credits, which are left out."""

LEAST_SECONDS = 2.0
"""Length of the shortest shot that is used."""


def export_shots(out: Path) -> None:
    """Write each shot that is missing in the folder `out` as one file; takes about a second.

    Raises:
        JigsawError: the download fails, or the disk cannot be written.
    """
    import av

    video = fetch_video()
    with split_folders(out, "the shots"), av.open(str(video)) as container:
        stream = container.streams.video[0]
        for number, packets in enumerate(_groups(container.demux(stream))):
            times = [float(packet.pts * packet.time_base) for packet in packets]
            side = _side(min(times), max(times))
            file = out / (side or "") / f"shot-{number:03}.mp4"
            if side is not None and not file.exists():
                _remux(packets, stream, file)


def _side(begin: float, end: float) -> str | None:
    """The split of a shot by its begin and end in seconds; None if it is left out."""
    if end - begin < LEAST_SECONDS or end > CREDITS_SECONDS:
        return None
    first, last = HELDOUT_SECONDS
    if first <= begin and end <= last:
        return "heldout"
    return "train" if end < first - GAP_SECONDS or begin > last + GAP_SECONDS else None


def _groups(packets: Iterable[Any]) -> Iterator[list[Any]]:
    """The packets of a stream, from each keyframe to the next."""
    group: list[Any] = []
    for packet in packets:
        if packet.pts is None:  # the flush at the end
            continue
        if packet.is_keyframe and group:
            yield group
            group = []
        group.append(packet)
    if group:
        yield group


def _remux(packets: list[Any], stream: Any, file: Path) -> None:
    """Write packets to a file whose time begins at zero, atomically."""
    import av

    start = min(packet.pts for packet in packets)
    with (
        atomic_path(file) as partial,
        av.open(str(partial), "w", format="mp4", options={"fflags": "+bitexact"}) as container,
    ):
        target = container.add_stream_from_template(stream)
        for packet in packets:
            packet.pts, packet.dts = packet.pts - start, packet.dts - start
            packet.stream = target
            container.mux(packet)


def _download(folder: Path) -> Path:
    """The source distribution, in `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", PACKAGE, "--dest", str(folder), _REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = sorted(folder.glob("*.tar.gz"))
    if done.returncode or not archives:
        reason = (done.stderr.strip().splitlines() or ["no error message"])[-1]
        raise JigsawError(
            f"the samples need the source distribution of {_REQUIREMENT} ({DOWNLOAD_SIZE}), but pip could not download "
            f"it: {reason}; check the connection and that `python -m pip` works, then run again"
        )
    return archives[0]


def _extract(archive: Path, folder: Path) -> Path:
    """Extract the video from the zip file inside the archive."""
    inner, _, member = PATH.partition(".zip/")
    try:
        with tarfile.open(archive) as outer:
            name = next(name for name in outer.getnames() if name.endswith(f"{inner}.zip"))
            file = outer.extractfile(name)
            assert file is not None
            with zipfile.ZipFile(file) as pack:
                found = next(name for name in pack.namelist() if name.endswith(member))
                return Path(pack.extract(found, folder))
    except (tarfile.TarError, zipfile.BadZipFile, StopIteration) as error:
        raise JigsawError(f"{archive.name} does not have {PATH}") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        export_shots(Path(sys.argv[1]))
    else:
        fetch_video()
