"""Turns exceptions and warnings into the one line that the command and its training processes print.

In: an exception. Out: the line, or None for an unexpected error, which is a bug.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings

from jigsaw.environment import cache_remedy
from jigsaw.errors import JigsawError, JigsawWarning, first_line, printable

DEBUG = "JIGSAW_DEBUG"
"""The environment variable by which `--debug` reaches the processes of a run."""


def expected_error(error: Exception) -> str | None:
    """The line for an expected error; None for an error that may be a bug."""
    from jigsaw.rewards import RewardError
    from jigsaw.tasks import TaskError

    if isinstance(error, JigsawError | RewardError | TaskError):
        return first_line(error)
    if type(error).__name__ == "OutOfMemoryError":  # torch's, without importing it
        return (
            "a GPU has no memory left; use fewer tokens per micro-batch (grpo.tokens_per_micro_batch), a smaller share "
            "for vLLM (rollout.gpu_memory_utilization) or another remedy of docs/guides/memory.md, and continue with "
            "--resume"
        )
    if isinstance(error, MemoryError):
        return "this machine has no memory left; close other programs or use a smaller batch, and try again"
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    # safetensors, arrow and torch report a full disk only in the text of their errors
    if (isinstance(error, OSError) and error.errno in full) or any(f"os error {code}" in str(error) for code in full):
        place = f" while writing {error.filename}" if isinstance(error, OSError) and error.filename else ""
        return f"the disk is full{place}: make room and run the same command again (launch: with --resume)"
    if isinstance(error, OSError) and error.filename:
        path = (
            os.fsdecode(error.filename)
            if isinstance(error.filename, str | bytes | os.PathLike)
            else str(error.filename)
        )
        return f"{path}: {(error.strerror or 'cannot be used').lower()}{cache_remedy(path)}"
    return None


def hide_library_warnings(*, quiet: bool = False) -> None:
    """Hide the warnings of libraries, and print `JigsawWarning`s in one line each, or not at all with `quiet`."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"jigsaw: warning: {printable(str(message))}", file=sys.stderr, flush=True)  # noqa: T201

    warnings.filterwarnings("ignore")
    if not quiet:
        warnings.filterwarnings("always", category=JigsawWarning)
        warnings.showwarning = show
