"""Text that other programs wrote: decoded by its byte order mark or as UTF-8, or refused by name; JSON lines.

In: a file, or its bytes. Out: text, lines, JSON values and objects. Lines end at line feeds alone: JSON allows U+2028,
U+0085 and other characters inside its strings that `str.splitlines` takes for ends of lines.
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jigsaw.errors import JigsawError, first_line

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LOOKED_AT = 4096


def encoding_of(head: bytes, name: str | Path) -> str:
    """The encoding of a text that begins with these bytes: by its byte order mark, else UTF-8.

    Args:
        name: of the file, for the message.

    Raises:
        JigsawError: the text looks like UTF-16 or UTF-32 but has no mark.

    >>> encoding_of(b"\\xff\\xfea\\0", "list.txt"), encoding_of(b"abc", "list.txt")
    ('utf-16', 'utf-8')
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if b"\0" in head[:_LOOKED_AT]:
        raise JigsawError(f"{name}: UTF-16 or UTF-32 without a byte order mark, or no text at all; save it as UTF-8")
    return "utf-8"


def decoded(data: bytes, name: str | Path) -> str:
    """The text of a file's bytes.

    Raises:
        JigsawError: the bytes are of another encoding; the message names the line.
    """
    try:
        return data.decode(encoding_of(data[:_LOOKED_AT], name))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"line {line} is not {error.encoding.upper()} (byte 0x{data[error.start]:02x})"
        raise JigsawError(f"{name}: {found}, perhaps Latin-1; save the file as UTF-8") from error


def read_text(path: Path) -> str:
    """The text of a file. Raises OSError where it cannot be read, and what `decoded` raises."""
    return decoded(path.read_bytes(), path)


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Number, from 1, and value of every line of a file that is not blank.

    Raises:
        JigsawError: a line is no JSON, or the file is of another encoding.
        OSError: it cannot be read.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, json_value(line, f"{path}: line {number}")


def json_value(text: str, name: str | Path) -> Any:
    """The value of a JSON text. Raises JigsawError where it is none; the message begins with `name`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        what = "is nested too deeply" if isinstance(error, RecursionError) else f"is no JSON ({first_line(error)})"
        raise JigsawError(f"{name} {what}") from error


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        path: the file.
        remedy: what to do where it cannot be read; the end of the message.

    Raises:
        JigsawError: the file cannot be read, or holds something else.
    """
    try:
        content = json_value(read_text(path), path)
    except OSError as error:
        raise JigsawError(f"{path} cannot be read ({error.strerror}); {remedy}") from error
    except JigsawError as error:
        raise JigsawError(f"{error}; {remedy}") from error
    if not isinstance(content, dict):
        raise JigsawError(f"{path} holds no JSON object but {named(content)}; {remedy}")
    return content


def named(value: Any) -> str:
    """A JSON value in a message: short, on one line.

    >>> named("a"), named([1, 2]), named(10**400)
    ("'a'", 'a list', 'a number of 401 digits')
    """
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, int) and abs(value) >= 10**20:
        return f"a number of {int(math.log10(abs(value))) + 1} digits"
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
