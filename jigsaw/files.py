"""Files that are there whole or not at all: a reader, or the next run, never meets half of one.

In: a path and its content. Out: the file, or the folder, written under another name beside it and renamed.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

TEMPORARY = ".tmp"
"""How the names of unfinished files end; they begin with a dot."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file, or replace it, in one step; its folder must be there.

    Args:
        path: the file.
        content: text is written as UTF-8.

    Raises:
        OSError: the disk refuses; what had that name before is still there.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A name to write a file or folder under, which becomes `path` when the block ends without an error.

    Of several processes that make the same folder at once one gives it its name; what the others wrote is removed.

    Args:
        path: the file or folder; the one that it lies in must be there.

    Yields:
        A name beside it that nobody else has; nothing is there.

    Raises:
        OSError: the disk refuses; what had the name `path` before is still there.
    """
    # No process number: two machines that share a disk may have the same.
    temporary = path.with_name(f".{path.name}.{token_hex(4)}{TEMPORARY}")
    try:
        yield temporary
        try:
            temporary.replace(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
