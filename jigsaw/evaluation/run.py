"""`jigsaw eval`: one checkpoint, one puzzle set, figures and predictions.

In: a checkpoint and a built set. Out: figures as in `evaluation.json`, and with a folder given the file itself and
`predictions.jsonl`, one scored completion a line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from jigsaw.data import load_puzzles
from jigsaw.errors import JigsawError
from jigsaw.evaluation.solve import solve
from jigsaw.evaluation.summary import FIGURES, chance, score, summarize
from rewards import Composition


def evaluate_checkpoint(
    model: str,
    data: Path,
    *,
    out: Path | None = None,
    rewards: Sequence[str] = ("visual_jigsaw",),
    batch_size: int = 16,
    max_new_tokens: int = 1024,
    limit: int | None = None,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Solve the puzzles of a set greedily and summarise.

    Args:
        model: checkpoint folder or hub id.
        data: folder of a puzzle set.
        out: folder for `evaluation.json` and `predictions.jsonl`; None writes nothing.
        rewards: what `reward` is the sum of.
        batch_size: prompts generated together.
        max_new_tokens: completion limit.
        limit: only so many puzzles, evenly spread.
        dtype: of weights and computation.

    Raises:
        JigsawError: the checkpoint, the set or the folder cannot be used.
    """
    if dtype not in ("float32", "bfloat16"):
        raise JigsawError(f"--dtype: {dtype!r} is neither float32 nor bfloat16")
    composition = Composition(list(rewards))
    if out is not None:
        _claim(out)
    puzzles = load_puzzles(data)

    import torch

    from jigsaw.models.load import load_model, load_processor

    if limit is not None and limit < len(puzzles):
        puzzles = puzzles.select([i * len(puzzles) // limit for i in range(limit)])
    processor = load_processor(model)
    network = load_model(model, dtype).to("cuda" if torch.cuda.is_available() else "cpu")
    with _progress(len(puzzles)) as advance:
        solved = solve(
            network, processor, puzzles, batch_size=batch_size, max_new_tokens=max_new_tokens, on_batch=advance
        )
    scored = score(solved, composition)
    figures = summarize(scored, chance(solved, composition))
    if out is not None:
        _write(out / "predictions.jsonl", "".join(json.dumps(asdict(item)) + "\n" for item in scored))
        _write(out / "evaluation.json", json.dumps(figures, indent=2))
    return figures


def _claim(out: Path) -> None:
    """Make the folder before the long work, and leave the figures of a training run alone."""
    if out.exists() and not out.is_dir():
        raise JigsawError(f"--out: {out} is a file; name a folder")
    if (out / "recipe.yaml").exists():
        raise JigsawError(f"--out: {out} holds a training run with figures of its own; name another folder")
    out.mkdir(parents=True, exist_ok=True)


def figures_table(named: Mapping[str, Mapping[str, Any]]) -> Table:
    """Figures of one or several checkpoints on the same puzzles, beside chance, as a table for the terminal."""
    first = next(iter(named.values()))
    table = Table(title=f"{first['num_puzzles']} puzzles from {first['num_sources']} sources, 95% intervals")
    table.add_column("")
    for name in named:
        table.add_column(name, justify="right")
    table.add_column("chance", justify="right")
    for figure in FIGURES:
        cells = [
            f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"
            for entry in (figures[figure] for figures in named.values())
        ]
        level = first[figure]["chance"]
        # A chance of 1/24 reads 0.042; one of 1/362880 must not read 0.000.
        table.add_row(figure, *cells, "" if level is None else f"{level:.3f}" if level >= 0.001 else f"{level:.1e}")
    return table


class _progress:
    """A bar on a terminal, nothing elsewhere; gives the function that moves it."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self._bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("solving", total=total)

    def __enter__(self) -> Any:
        self._bar.start()
        return lambda done: self._bar.update(self._task, completed=done)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
