"""Files that are there whole or not at all: a reader, or the next run, never meets half of one.

In: a path and its content. Out: the file, written under another name in the same folder and renamed.
"""

from __future__ import annotations

from pathlib import Path
from secrets import token_hex


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, or replace it, in one step; its folder must be there.

    Args:
        path: the file.
        content: text is written as UTF-8.

    Raises:
        OSError: the disk refuses; what had that name before is still there.
    """
    # No process number: two machines that share a disk may have the same.
    temporary = path.with_name(f".{path.name}.{token_hex(4)}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
