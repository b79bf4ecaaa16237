"""Lists of sources: text files with one path per line, for RGB-D two paths with a tab between.

In: a list. Out: relative paths and, for lines that name no file because of blanks, quotes or backslashes, a `Problem`.
The encoding is UTF-8 or that of the byte order mark, in every locale.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from jigsaw.data.sources.paths import BETWEEN, exists, leaves, printable, relative_to
from jigsaw.data.sources.recognition import Problem
from jigsaw.errors import JigsawError
from jigsaw.tasks import SourceKind
from jigsaw.text import encoding_of

_QUOTES = "\"'"


def listed(file: Path, kind: SourceKind) -> Iterator[str | Problem]:
    """The sources of a list, relative to its folder. Empty lines and lines that begin with # are skipped.

    Raises:
        JigsawError: the encoding of the list is unknown.
    """
    root = file.resolve().parent
    with file.open("rb") as stream:
        encoding = encoding_of(stream.read(4096), file)
    with file.open(encoding=encoding, errors="surrogateescape", newline="\n") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                text = line.rstrip("\r\n")
                if text.strip() and not text.startswith("#"):
                    yield _source(root, text, number, kind)
        except UnicodeDecodeError as error:
            raise JigsawError(f"{file}: damaged {encoding.upper()} ({error.reason}); save it as UTF-8") from error


def _source(root: Path, text: str, number: int, kind: SourceKind) -> str | Problem:
    pieces = text.split("\t") if kind == "rgbd" else [text]
    path = BETWEEN.join(str(relative_to(root, PurePosixPath(piece))) for piece in pieces)
    if printable(path) != path:
        what = f"line {number} of the list is not UTF-8; save the list as UTF-8, or rename the file"
        return Problem(printable(path), "bad_name", what)
    if "\0" in path:
        return Problem(path.replace("\0", "\\0"), "bad_name", f"line {number} of the list has a zero byte")
    if any(leaves(piece) for piece in path.split(BETWEEN)):
        remedy = "move the list to a folder above the files, or link the files into its folder"
        return Problem(path, "bad_name", f"the path leads out of the folder of the list: {remedy}")
    why = _misread(root, text, pieces, kind)
    return path if why is None else Problem(path, "bad_name", f"line {number} of the list {why}")


def _misread(root: Path, text: str, pieces: list[str], kind: SourceKind) -> str | None:
    """Why a line does not name the intended file, if the file as written does not exist; else None."""
    if (kind == "rgbd" and len(pieces) != 2) or not all(pieces):
        return f"has {len(pieces)} paths, separated by tabs; a picture and its depth map are two"
    for piece in pieces:
        trimmed = piece.strip().strip(_QUOTES).strip()
        if (trimmed == piece and "\\" not in piece and "\t" not in piece) or _is_there(root, piece):
            continue
        if "\t" in trimmed:
            return "has a tab; for images and videos a line has one path"
        for meant, cause in (
            (piece.strip(), "blanks or tabs around the path"),
            (trimmed, "quotes around the path"),
            (trimmed.replace("\\", "/"), "backslashes; paths are written with /"),
        ):
            if meant != piece and _is_there(root, meant):
                return f"has {cause}; without them the file {meant} exists"
        if trimmed != piece:
            return "has blanks, tabs or quotes around the path, and there is no such file"
    return None


def _is_there(root: Path, path: str) -> bool:
    return exists(root / path.partition(BETWEEN)[0])
