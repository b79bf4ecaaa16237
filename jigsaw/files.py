"""Writes files and folders atomically, so that a reader or a later run never sees an incomplete one.

In: a path and its content. Out: the file or folder, written under a temporary name in the same folder and then renamed.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

TEMPORARY = ".tmp"
"""Suffix of the names of unfinished files, which begin with a dot."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write or replace a file atomically.

    Args:
        path: the file; its folder must exist.
        content: the content; text is written as UTF-8.

    Raises:
        OSError: the file cannot be written; an existing file is unchanged.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path to write a file or folder to, which is renamed to `path` if the block ends without an error.

    If several processes write the same folder, the first one to finish names it, and the others' work is removed.

    Args:
        path: the file or folder; its parent folder must exist.

    Yields:
        A unique path in the same folder, where nothing exists yet.

    Raises:
        OSError: the path cannot be written; an existing file is unchanged.
    """
    # A random name: process numbers are not unique if machines share the disk.
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
