"""Errors and warnings that a user can act on. The command prints each as a single line; a traceback needs `--debug`."""


class JigsawError(Exception):
    """Something about data, recipe, model or machine is wrong. The message names it and the remedy."""

    exit_code = 1


class StoppedError(JigsawError):
    """A run was asked to stop (SIGTERM) and has saved what it had; `--resume` goes on."""

    exit_code = 143  # as a shell tells of a process that SIGTERM ended


class JigsawWarning(UserWarning):
    """Something that whoever started a run should know while it goes on."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type's name where it says nothing.

    >>> first_line(ValueError("no such place\\n  at row 3")), first_line(KeyError())
    ('no such place', 'KeyError')
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
