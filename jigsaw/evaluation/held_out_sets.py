"""What `evaluation.json` of a run holds: figures of each held-out set, so that sets of unlike puzzles are never mixed.

In: the held-out puzzles with the answers of each model. Out::

    {"heldout": {...}, "warmup": {...}, "gain": {...},          the set without a name, which a run is judged by
     "others": {"real photos": {"heldout": {...}, "warmup": {...}, "gain": {...}}}}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jigsaw.evaluation.breakdown import figures_of
from jigsaw.evaluation.summary import Row, Scored, gain
from jigsaw.rewards import Composition
from jigsaw.training.sets import HeldOut


def figures_by_set(
    heldout: HeldOut,
    solved: Mapping[str, Sequence[Row]],
    scored: Mapping[str, Sequence[Scored]],
    composition: Composition,
) -> dict[str, Any]:
    """Figures of each held-out set.

    Args:
        heldout: the puzzles.
        solved: `heldout` (the final model) and, after a warm-up, `warmup` -> one answered row per puzzle, in order.
        scored: the same, scored.
        composition: the rewards that `reward` is the sum of.
    """

    def part(rows: Sequence[int]) -> dict[str, Any]:
        own = {model: [scored[model][row] for row in rows] for model in scored}
        figures: dict[str, Any] = {
            model: figures_of([solved[model][row] for row in rows], own[model], composition) for model in scored
        }
        if "warmup" in own:
            figures["gain"] = gain(own["warmup"], own["heldout"])
        return figures

    others = {name: part(heldout.rows_of(name)) for name in heldout.names if name is not None}
    return part(heldout.rows_of(None)) | ({"others": others} if others else {})
