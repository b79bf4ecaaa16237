"""Errors and warnings that a user can act on. The command prints each in one line; `--debug` adds the traceback."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class JigsawError(Exception):
    """A problem with data, recipe, model or machine. The message names the problem and the remedy."""

    exit_code = 1


class StoppedError(JigsawError):
    """A run was asked to stop (Ctrl-C, SIGTERM, a closed terminal) and has saved its state; `--resume` continues it.

    Args:
        message: where it stopped.
        exit_code: the exit code that shells use for the signal: 130 for SIGINT, 143 for SIGTERM.

    Attributes:
        command: the command that continues the run, if a command started it.
    """

    def __init__(self, message: str, exit_code: int = 143) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.command: str | None = None


class JigsawWarning(UserWarning):
    """A warning of this framework, shown to the user in one line."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or the name of its type if the text is empty.

    >>> first_line(ValueError("no such place\\n  at row 3")), first_line(KeyError())
    ('no such place', 'KeyError')
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a message about an unknown word: the nearest known word, otherwise `otherwise` or all known words.

    >>> did_you_mean("discuont", ["discount", "format_weight"])
    'did you mean discount?'
    >>> did_you_mean("zzz", ["b", "a"])
    'known: a, b'
    >>> did_you_mean("eval", ["evaluation", "data"])
    'did you mean evaluation?'
    """
    names = sorted(known)
    near = get_close_matches(word, names, n=1)
    if not near and len(word) > 2:
        near = [name for name in names if name.startswith(word)]
    if near:
        return f"did you mean {near[0]}?"
    return otherwise or (f"known: {', '.join(names)}" if names else "there are none")


def printable(text: str) -> str:
    r"""A text that is safe to print on a terminal: control characters are escaped, line breaks are kept.

    >>> printable("a\x1b[31m.png")
    'a\\x1b[31m.png'
    """
    return "".join(
        character if character.isprintable() or character in "\n\t" else ascii(character)[1:-1] for character in text
    )


def raised_in(error: BaseException, code: object) -> str:
    """The last place of a traceback in the file of a class, function or path: `mine.py:47 in plan`; empty if none.

    The text has only the name of the file, so that it is the same on every machine.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    try:
        file = str(code) if isinstance(code, str | Path) else inspect.getsourcefile(code)  # type: ignore[arg-type]
    except TypeError:
        return ""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if not frames:
        return ""
    method = "" if frames[-1].name == "<module>" else f" in {frames[-1].name}"
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}{method}"
