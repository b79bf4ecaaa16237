"""Transfer matrix: evaluates the models of several runs on the held-out sets of all of them, with intervals.

    python experiments/transfer.py OUT RUN RUN ... [--puzzles 256] [--engine transformers] [--max-new-tokens 1024]

A row is a run, a column is a task with its kind of answer. Each cell is the share of right answers with its 95%
interval over sources; the first row is chance. OUT receives `evals/RUN/` for every run (finished ones are not
repeated), `matrix.md` and `matrix.json`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from jigsaw.answering.generation import Generation
from jigsaw.evaluation.evaluate import evaluate_checkpoint
from jigsaw.evaluation.log import Figure
from jigsaw.evaluation.runs import PuzzleSet, own_sets, trained_model
from jigsaw.results.formatting import interval, rounded

Row = dict[str, Figure]


def sets_of(runs: list[Path], puzzles: int) -> list[PuzzleSet]:
    """The held-out sets of all runs, without duplicates."""
    sets = {one.data.resolve(): one for run in runs for one in own_sets(run)}
    return [
        PuzzleSet(folder, "" if number == 0 else f"set-{number}", one.task, puzzles)
        for number, (folder, one) in enumerate(sets.items())
    ]


def evaluated(run: Path, sets: list[PuzzleSet], out: Path, generation: Generation) -> Row:
    """The share of right answers of a run's model for each task and kind of answer."""
    log = evaluate_checkpoint(str(trained_model(run)), sets, generation=generation, out=out)
    row: Row = {}
    for one in log.sets:
        for group in one.model.groups:
            if group.difficulty is None:
                row.setdefault(str(group), group.estimates["exact"])
    return row


def matrix(rows: dict[str, Row]) -> str:
    """All figures as a Markdown table."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    chance = {name: next(row[name].chance for row in rows.values() if name in row) for name in columns}
    lines = [f"| trained on | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    lines.append(f"| (guessing) | {' | '.join(rounded(chance[name], 2) or '–' for name in columns)} |")
    for run, row in rows.items():
        lines.append(f"| {run} | {' | '.join(interval(row[name], 2) if name in row else '–' for name in columns)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the missing evaluations and write the matrix."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--puzzles", type=int, default=256)
    parser.add_argument("--engine", default="transformers")
    parser.add_argument("--max-new-tokens", type=int, default=1024)
    options = parser.parse_args()
    sets = sets_of(options.runs, options.puzzles)
    generation = Generation(engine=options.engine, max_new_tokens=options.max_new_tokens, batch_size=64)
    rows = {run.name: evaluated(run, sets, options.out / "evals" / run.name, generation) for run in options.runs}
    command = shlex.join(["python", "experiments/transfer.py", *sys.argv[1:]])
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "matrix.md").write_text(f"`{command}`; 95% intervals over sources.\n\n{matrix(rows)}")
    stored = {run: {name: asdict(figure) for name, figure in row.items()} for run, row in rows.items()}
    (options.out / "matrix.json").write_text(json.dumps(stored, indent=2) + "\n")
    print(matrix(rows))


if __name__ == "__main__":
    main()
