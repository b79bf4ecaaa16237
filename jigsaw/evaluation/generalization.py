"""`jigsaw generalize`: evaluates a trained model on unseen sources, other sizes and other prompts.

In: a run folder. Out: a folder with puzzle sets and evaluations, and `generalization.json` with the figures of each
condition and their chance levels. The share of the distance from chance to 1 can be compared between sizes.

    seen                new puzzles of the training size, from training sources
    unseen              the same from held-out sources
    size N              held-out sources, another size
    prompt variant N    held-out sources, another prompt
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jigsaw.answering.generation import GREEDY, Generation
from jigsaw.data import build_puzzles, load_puzzles
from jigsaw.data.loading.load import spec_of
from jigsaw.data.storage.manifest import Manifest, read_manifest, shard_manifests
from jigsaw.data.storage.parts import puzzle_of
from jigsaw.errors import JigsawError
from jigsaw.evaluation.evaluate import evaluate_checkpoint
from jigsaw.evaluation.log import Evaluation, Figure
from jigsaw.files import write_atomically
from jigsaw.results.intervals import Estimate
from jigsaw.results.log_file import Log, command_line, to_json, versions
from jigsaw.results.tables import Cell, PaperTable, Row
from jigsaw.run_folder import RunFolder
from jigsaw.tasks import get_task

FILE = "generalization.json"
ANOTHER_SEED = 1_000_003
"""Added to the training seed, so that the same sources give new puzzles."""


@dataclass(frozen=True, kw_only=True)
class Generalization(Log):
    """The content of `generalization.json`.

    Attributes:
        trained_size: the task's size in training.
        shared_sources: number of sources that are both seen and unseen; it should be 0.
        conditions: name -> figures. The samples are in `evals/NAME`.
    """

    run: str
    task: str
    trained_size: str
    shared_sources: int
    conditions: dict[str, Evaluation]


def generalize(
    run: Path,
    *,
    out: Path,
    sizes: Sequence[str] = (),
    puzzles: int = 256,
    task: str | None = None,
    generation: Generation = GREEDY,
) -> Generalization:
    """Evaluate a run's model under all conditions. A second call continues after an interruption.

    Args:
        run: folder of `jigsaw launch`, with its model.
        out: folder for the puzzle sets, the evaluations and `generalization.json`.
        sizes: in the form of the task's configuration; those of its `SIZE` if empty.
        puzzles: maximum number of puzzles per condition.
        task: spec of the task that built the sets, if it is a plug-in.
        generation: as in `evaluate_checkpoint`.

    Raises:
        JigsawError: the run has no model or no puzzle sets, or a size cannot be built.
    """
    model = run / "model"
    if not (model / "config.json").is_file():
        raise JigsawError(f"{run} has no trained model: finish it with jigsaw launch --resume")
    trained, heldout = _sets(run)
    spec = spec_of(run, heldout.settings, task)
    kind = get_task(spec, **heldout.settings.config)
    if kind.SIZE is None and sizes:
        raise JigsawError(f"--sizes: task {kind.name} has no size (SIZE); leave --sizes out")
    key, default_sizes = kind.SIZE or ("", ())
    size = str(heldout.settings.config[key]) if key else ""
    # "seen" needs a training set of the size of the held-out set, if there is one.
    train = next((each for each in trained if str(each.settings.config.get(key)) == size), trained[0])
    seen = _built(spec, train, out / "data" / "seen", {key: size} if key else {}, puzzles)
    unseen = _built(spec, heldout, out / "data" / "unseen", {}, puzzles)
    conditions = {"seen": (seen, 0), "unseen": (unseen, 0)}  # the puzzle set and the number of the prompt variant
    for other in sizes or default_sizes:
        if other != size:
            data = _built(spec, heldout, out / "data" / f"size-{other}", {key: other}, puzzles)
            conditions[f"size {other}"] = (data, 0)
    variants = kind.variants(puzzle_of(load_puzzles(unseen, task=spec).with_format(None)[0]))
    conditions |= {f"prompt variant {number}": (unseen, number) for number in range(1, len(variants) + 1)}
    shared = len(_sources(seen, spec) & _sources(unseen, spec))
    evaluations: dict[str, Evaluation] = {}
    for name, (data, variant) in conditions.items():
        log = evaluate_checkpoint(
            str(model),
            data,
            generation=generation,
            out=out / "evals" / name.replace(" ", "-"),
            limit=puzzles,
            prompt_variant=variant,
            task=task,
        )
        evaluations[name] = replace(log.main.model, samples=[])
    report = Generalization(
        argv=command_line(),
        versions=versions(),
        run=str(run),
        task=kind.name,
        trained_size=size,
        shared_sources=shared,
        conditions=evaluations,
    )
    write_atomically(out / FILE, to_json(report))
    return report


def gained(figure: Figure) -> Estimate | None:
    """The share of the distance from chance to 1: 0 for random answers, 1 for perfect ones.

    >>> gained(Figure(0.625, 0.25, 1.0, chance=0.25))
    Estimate(value=0.5, low=0.0, high=1.0)
    """
    chance = figure.chance
    if chance is None or chance >= 1:
        return None
    return Estimate(*((bound - chance) / (1 - chance) for bound in (figure.value, figure.low, figure.high)))


def _sets(run: Path) -> tuple[list[Manifest], Manifest]:
    """The manifest of a run's first held-out set, and before it those of the training sets of the same task."""
    folder = RunFolder(run)
    stored = folder.read_sets() if folder.data.is_file() else {"eval": [], "train": []}
    heldout = next((read_manifest(path) for path in stored["eval"] if _holds_puzzles(path)), None)
    if heldout is None:
        raise JigsawError(f"{run} has no list of puzzle sets (data.json): finish it with jigsaw launch --resume")
    trained = [read_manifest(path) for path in stored["train"] if _holds_puzzles(path)]
    same = [each for each in trained if each.settings.task == heldout.settings.task]
    if not same:
        raise JigsawError(f"{run} was not trained on the task of its held-out set, {heldout.settings.task}")
    return same, heldout


def _holds_puzzles(path: str) -> bool:
    """Whether a set has puzzles and not conversations. A set that does not exist is taken for puzzles."""
    return not Path(path).exists() or bool(shard_manifests(Path(path)))


def _built(spec: str, manifest: Manifest, out: Path, changes: Mapping[str, Any], puzzles: int) -> Path:
    """Build a set of new puzzles from the sources and the changed configuration of another set.

    `spec` is the task as the user names it: code that only a manifest names is not run.
    """
    settings = manifest.settings
    if settings.imported:
        raise JigsawError(f"a set imported from {settings.imported} cannot be built again: name a run with built sets")
    config = settings.config | ({"augment": False} if "augment" in settings.config else {})
    build_puzzles(
        spec,
        Path(manifest.source_root) / manifest.source_name,
        out,
        config={**config, **changes},
        per_source=max(1, -(-puzzles // max(1, manifest.counts.sources))),
        limit=settings.limit,
        seed=settings.seed + ANOTHER_SEED,
        split=settings.split,
        heldout=settings.heldout or 0.2,
        materialize=True,
    )
    return out


def _sources(data: Path, task: str) -> set[str]:
    return {source["fingerprint"] for source in load_puzzles(data, task=task).with_format(None)["source"]}


def generalization_table(report: Generalization, path: Path) -> PaperTable:
    """A row per condition: `exact` and `place_accuracy` with their chance levels. `path` is the file of the report."""
    columns = ["exact", "chance of exact", "place_accuracy", "chance of place_accuracy", "gained over chance"]
    rows = []
    for name, evaluation in report.conditions.items():
        cells: dict[str, Cell] = {}
        for figure in ("exact", "place_accuracy"):
            estimate = evaluation.estimates.get(figure)
            if estimate is None:
                continue
            cells[figure] = Cell.of(estimate)
            if estimate.chance is not None:
                cells[f"chance of {figure}"] = Cell(estimate.chance)
        if (share := gained(evaluation.estimates.get("place_accuracy") or evaluation.estimates["exact"])) is not None:
            cells[columns[-1]] = Cell.of(share)
        rows.append(Row(name, cells, str(path), report.command))
    kind = ", trained on ".join(filter(None, (report.task, report.trained_size)))
    shared = "no source is both seen and unseen"
    if report.shared_sources:
        shared = f"{report.shared_sources} sources are BOTH seen and unseen"
    return PaperTable(f"Generalisation of {report.run} ({kind}); {shared}; 95% intervals", columns, rows)
