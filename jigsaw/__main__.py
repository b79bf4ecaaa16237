"""The `jigsaw` command and `python -m jigsaw`. Ctrl-C ends it with one line, even while it imports libraries."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line."""
    try:
        from jigsaw.cli.command import main as command

        command()
    except KeyboardInterrupt:
        print("jigsaw: interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(130)


if __name__ == "__main__":
    main()
