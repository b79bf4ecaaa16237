"""Log files: what a command writes about its results, as JSON with its command and versions.

In: a dataclass that derives from `Log`. Out: JSON, and the same dataclass when the file is read. An unknown key, a
value of another type or a number that is not finite is an error that names the key.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any, ClassVar, TypeVar

from pydantic import TypeAdapter, ValidationError

from jigsaw.errors import JigsawError
from jigsaw.text import json_value, read_text

FORMAT = 2
"""Version of the file format. A file of another version is refused."""

LIBRARIES = ("visual-jigsaw", "torch", "transformers", "trl", "datasets")

Kind = TypeVar("Kind")


class Stored:
    """Base of all parts of a log. Reading refuses unknown keys and numbers that are not finite."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"allow_inf_nan": False, "extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class Log(Stored):
    """Base of a log: the origin of its figures.

    Attributes:
        argv: the command that computed the figures.
        versions: of Python and the libraries.
        format: version of the file format.
    """

    argv: list[str]
    versions: dict[str, str]
    format: int = FORMAT

    @property
    def command(self) -> str:
        """`argv` as one line for a shell."""
        return shlex.join(self.argv)


def command_line() -> list[str]:
    """The command of this process, as a user types it."""
    program = Path(sys.argv[0]).name
    words = ["jigsaw" if program == "__main__.py" else program, *sys.argv[1:]]
    return [word.encode("utf-8", "backslashreplace").decode() for word in words]  # file names may be invalid text


def versions() -> dict[str, str]:
    """The versions of Python and of the installed libraries that figures depend on."""
    installed = {"python": python_version()}
    for name in LIBRARIES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def to_json(log: Any) -> str:
    """A log as JSON. The samples of an evaluation are left out."""
    return json.dumps(_adapter(type(log)).dump_python(log), indent=2) + "\n"


def from_json(kind: type[Kind], path: Path, remedy: str = "evaluate again with `jigsaw eval`") -> Kind:
    """Read a log from a file.

    Raises:
        JigsawError: the file is missing, has another format, or is broken. The message ends with the remedy.
    """
    if not path.is_file():
        raise JigsawError(f"{path} is missing; {remedy}")
    try:
        stored = json_value(read_text(path), path)
    except JigsawError as error:
        raise JigsawError(f"{error}; {remedy}") from error
    file_format = stored.get("format", 1) if isinstance(stored, dict) and issubclass(kind, Log) else FORMAT
    if file_format != FORMAT:
        raise OlderLogError(f"{path} has format {file_format}, this version reads {FORMAT}; {remedy}")
    try:
        return validated(kind, stored)
    except ValueError as error:
        raise JigsawError(f"{path}: {error}; {remedy}") from error


def validated(kind: type[Kind], stored: Any) -> Kind:
    """A dataclass of a log from its JSON value.

    Raises:
        ValueError: a key or value is wrong; the message begins with the key, as in `sets.0.estimates: Field required`.
    """
    try:
        value: Kind = _adapter(kind).validate_python(stored)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise ValueError(f"{where}: {fault['msg']}" if where else fault["msg"]) from error
    return value


_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)
"""Reads and writes a dataclass of a log. It is cached, because creating it is slow."""


class OlderLogError(JigsawError):
    """A file of another version of the format."""
