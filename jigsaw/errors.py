"""Errors and warnings that a user can act on. The command prints each as a single line; a traceback needs `--debug`."""

from collections.abc import Sequence
from difflib import get_close_matches


class JigsawError(Exception):
    """Something about data, recipe, model or machine is wrong. The message names it and the remedy."""

    exit_code = 1


class StoppedError(JigsawError):
    """A run was asked to stop (SIGTERM) and has saved what it had; `--resume` goes on."""

    exit_code = 143  # as a shell tells of a process that SIGTERM ended


class JigsawWarning(UserWarning):
    """Something that whoever started a run should know while it goes on."""


def did_you_mean(name: str, known: Sequence[str], otherwise: str = "") -> str:
    """How a message about an unknown name ends: the nearest known one, else that text or all known ones.

    >>> did_you_mean("gird", ["grid", "tile"]), did_you_mean("x", ["grid", "tile"])
    ('did you mean grid?', 'known are grid, tile')
    """
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else otherwise or f"known are {', '.join(known)}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type's name where it says nothing.

    >>> first_line(ValueError("no such place\\n  at row 3")), first_line(KeyError())
    ('no such place', 'KeyError')
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
