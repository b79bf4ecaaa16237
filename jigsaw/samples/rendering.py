"""What the modules that render sources share: the numbers of a split, errors of the disk, and a command line.

For example `python -m jigsaw.samples.rooms DIR --train 40`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from jigsaw.errors import JigsawError

FIRST_NUMBERS = {"train": 0, "heldout": 10**6}
"""Number of the first source of each split, so that no source is in both."""


def numbered(counts: Mapping[str, int]) -> Iterator[tuple[str, int, int]]:
    """Split, number within the split, and number for the random generator of every source.

    >>> list(numbered({"train": 1, "heldout": 2}))
    [('train', 0, 0), ('heldout', 0, 1000000), ('heldout', 1, 1000001)]
    """
    for split, first in FIRST_NUMBERS.items():
        for number in range(counts[split]):
            yield split, number, first + number


@contextmanager
def disk_errors(out: Path, what: str) -> Iterator[None]:
    """Raise a `JigsawError` for an `OSError` in the block.

    Args:
        out: the folder that is written, for errors that name no file.
        what: what is written, for the message.
    """
    try:
        yield
    except OSError as error:
        raise JigsawError(f"{error.filename or out}: cannot write {what}: {error.strerror or error}") from error


@contextmanager
def split_folders(out: Path, what: str) -> Iterator[None]:
    """Make the folders `train` and `heldout` in `out`, with the errors of `disk_errors`."""
    with disk_errors(out, what):
        for split in FIRST_NUMBERS:
            (out / split).mkdir(parents=True, exist_ok=True)
        yield


def main(export: Callable[[Path, dict[str, int], int], object], counts: Mapping[str, int], what: str) -> None:
    """Render as many sources as the command line asks for.

    Args:
        export: writes the given number for each split into a folder, with a seed.
        counts: the default number for each split.
        what: what is rendered, for the help text.
    """
    parser = argparse.ArgumentParser(description=f"Render {what}.")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--train", type=int, default=counts["train"], help="number for training")
    parser.add_argument("--heldout", type=int, default=counts["heldout"], help="number held out")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    options = parser.parse_args()
    export(options.out, {"train": options.train, "heldout": options.heldout}, options.seed)
