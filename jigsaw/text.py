"""Reads text and JSON that other programs wrote: decodes it by its byte order mark or as UTF-8.

In: a file, or its bytes. Out: text, lines, JSON values and objects, or an error that names the file. Only a line feed
ends a line: JSON strings may contain U+2028, U+0085 and other characters that `str.splitlines` treats as line ends.
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
_HEAD = 4096
"""Bytes at the start of a file that are examined."""


def encoding_of(head: bytes, name: str | Path) -> str:
    """The encoding of a text that begins with these bytes: that of its byte order mark, otherwise UTF-8.

    Args:
        name: name of the file, for the message.

    Raises:
        JigsawError: the text seems to be UTF-16 or UTF-32 but has no byte order mark.

    >>> encoding_of(b"\\xff\\xfea\\0", "list.txt"), encoding_of(b"abc", "list.txt")
    ('utf-16', 'utf-8')
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if b"\0" in head[:_HEAD]:
        raise JigsawError(f"{name}: UTF-16 or UTF-32 without a byte order mark, or not text; save it as UTF-8")
    return "utf-8"


def decoded(data: bytes, name: str | Path) -> str:
    """The text of a file's bytes.

    Raises:
        JigsawError: the bytes have another encoding; the message names the line.
    """
    try:
        return data.decode(encoding_of(data[:_HEAD], name))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = f"line {line} is not {error.encoding.upper()} (byte 0x{data[error.start]:02x})"
        raise JigsawError(f"{name}: {problem}, perhaps Latin-1; save the file as UTF-8") from error


def read_text(path: Path) -> str:
    """The text of a file. Raises OSError if it cannot be read, and the errors of `decoded`."""
    return decoded(path.read_bytes(), path)


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Number, from 1, and value of every line of a file that is not blank.

    Raises:
        JigsawError: a line is not JSON, or the file has another encoding.
        OSError: the file cannot be read.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, json_value(line, f"{path}: line {number}")


def json_value(text: str, name: str | Path) -> Any:
    """The value of a JSON text. Raises JigsawError if it is not JSON; the message begins with `name`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        what = "is nested too deeply" if isinstance(error, RecursionError) else f"is not JSON ({first_line(error)})"
        raise JigsawError(f"{name} {what}") from error


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        path: the file.
        remedy: what to do if it cannot be read; the end of the message.

    Raises:
        JigsawError: the file cannot be read, or is not a JSON object.
    """
    try:
        content = json_value(read_text(path), path)
    except OSError as error:
        raise JigsawError(f"{path} cannot be read ({error.strerror}); {remedy}") from error
    except JigsawError as error:
        raise JigsawError(f"{error}; {remedy}") from error
    if not isinstance(content, dict):
        raise JigsawError(f"{path} is not a JSON object but {named(content)}; {remedy}")
    return content


def named(value: Any) -> str:
    """A short description of a JSON value, on one line, for messages.

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
