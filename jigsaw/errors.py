"""Errors and warnings that a user can act on. The command prints each as a single line; a traceback needs `--debug`."""


class JigsawError(Exception):
    """Something about data, recipe, model or machine is wrong. The message names it and the remedy."""

    exit_code = 1


class StoppedError(JigsawError):
    """A run was asked to stop (SIGTERM) and has saved what it had; `--resume` goes on."""

    exit_code = 143  # as a shell tells of a process that SIGTERM ended


class JigsawWarning(UserWarning):
    """Something that whoever started a run should know while it goes on."""
