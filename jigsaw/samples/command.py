"""The command line of the modules that draw sources, such as `python -m jigsaw.samples.rooms DIR --train 40`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path


def draw(export: Callable[[Path, dict[str, int], int], object], counts: Mapping[str, int], what: str) -> None:
    """Draw as many sources as the command line says.

    Args:
        export: draws into a folder the given number for each split, with a seed.
        counts: the number for each split where the command line has none.
        what: what is drawn, in words.
    """
    parser = argparse.ArgumentParser(description=f"Draw {what}.")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--train", type=int, default=counts["train"], help="how many to train on")
    parser.add_argument("--heldout", type=int, default=counts["heldout"], help="how many are held out")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    export(options.out, {"train": options.train, "heldout": options.heldout}, options.seed)
