"""`jigsaw generalize`: what a trained model keeps on other pictures, other sizes and in other words.

In: a run folder. Out: a folder with puzzle sets and evaluations, and `generalization.json`: per condition the figures
next to chance. The share of the way from chance to perfect can be compared between sizes.

    seen        other puzzles of the training's size from the training's sources
    unseen      the same from held-out sources
    size N      held-out sources, other sizes
    wording N   held-out sources, the question in other words
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
"""Added to the training's seed: the same sources, other puzzles."""


@dataclass(frozen=True)
class Condition:
    """One way of asking: a puzzle set, and a wording of its question."""

    name: str
    data: Path
    wording: int = 0


@dataclass(frozen=True, kw_only=True)
class Generalization(Log):
    """What `generalization.json` holds.

    Attributes:
        trained_size: value of the task's size in training.
        shared_sources: sources that are both seen and unseen; there should be none.
        conditions: name -> figures; the samples are in `evals/NAME`.
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
    """Evaluate a run's model under all conditions; a second call continues where the first was interrupted.

    Args:
        run: folder that `jigsaw launch` made, with its model.
        out: folder for what is written.
        sizes: as the task's configuration writes them; those of its `SIZE` if there are none.
        puzzles: most puzzles per condition.
        task: spec of the plug-in task that built the sets, if one did.
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
        raise JigsawError(f"--sizes: task {kind.name} names no key of its size (SIZE); leave --sizes out")
    key, usual = kind.SIZE or ("", ())
    own = str(heldout.settings.config[key]) if key else ""
    # A training set of the same size, if there is one: "seen" asks what the training asked.
    train = next((each for each in trained if str(each.settings.config.get(key)) == own), trained[0])
    conditions = [
        Condition("seen", _built(spec, train, out / "data" / "seen", {key: own} if key else {}, puzzles)),
        Condition("unseen", _built(spec, heldout, out / "data" / "unseen", {}, puzzles)),
    ]
    others = [size for size in (sizes or usual) if size != own]
    conditions += [
        Condition(f"size {size}", _built(spec, heldout, out / "data" / f"size-{size}", {key: size}, puzzles))
        for size in others
    ]
    unseen = conditions[1].data
    wordings = len(kind.variants(puzzle_of(load_puzzles(unseen, task=spec).with_format(None)[0])))
    conditions += [Condition(f"wording {at}", unseen, at) for at in range(1, wordings + 1)]
    shared = len(_sources(conditions[0].data, spec) & _sources(unseen, spec))
    found: dict[str, Evaluation] = {}
    for condition in conditions:
        log = evaluate_checkpoint(
            str(model),
            condition.data,
            generation=generation,
            out=out / "evals" / condition.name.replace(" ", "-"),
            limit=puzzles,
            wording=condition.wording,
            task=task,
        )
        found[condition.name] = replace(log.main.model, samples=[])
    report = Generalization(
        argv=command_line(),
        versions=versions(),
        run=str(run),
        task=kind.name,
        trained_size=own,
        shared_sources=shared,
        conditions=found,
    )
    write_atomically(out / FILE, to_json(report))
    return report


def gained(figure: Figure) -> Estimate | None:
    """The share of the way from chance to 1: 0 for a random player, 1 for a perfect one.

    >>> gained(Figure(0.625, 0.25, 1.0, chance=0.25))
    Estimate(value=0.5, low=0.0, high=1.0)
    """
    chance = figure.chance
    if chance is None or chance >= 1:
        return None
    return Estimate(*((bound - chance) / (1 - chance) for bound in (figure.value, figure.low, figure.high)))


def _sets(run: Path) -> tuple[list[Manifest], Manifest]:
    """Manifests of a run's sets: the training ones of the task of the first held-out one, and that."""
    folder = RunFolder(run)
    stored = folder.read_sets() if folder.data.is_file() else {"eval": [], "train": []}
    try:
        heldout = next(read_manifest(path) for path in stored["eval"] if _holds_puzzles(path))
        trained = [read_manifest(path) for path in stored["train"] if _holds_puzzles(path)]
    except StopIteration as error:
        raise JigsawError(f"{run} names no puzzle sets (data.json): launch it to its end") from error
    wanted = heldout.settings
    same = [each for each in trained if each.settings.task == wanted.task]
    if not same:
        raise JigsawError(f"{run} was not trained on the task of its held-out set, {wanted.task}")
    return same, heldout


def _holds_puzzles(path: str) -> bool:
    """Whether a set that is there is one of puzzles, not of conversations."""
    return not Path(path).exists() or bool(shard_manifests(Path(path)))


def _built(spec: str, manifest: Manifest, out: Path, changes: Mapping[str, Any], puzzles: int) -> Path:
    """A set like another one: its sources and configuration but for the changes, other puzzles.

    `spec` is the task's as the user names it: code that a manifest alone names is not run.
    """
    settings = manifest.settings
    if settings.imported:
        raise JigsawError(f"a set imported from {settings.imported} cannot be built anew: name a run on built sets")
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
    """A row per condition: exact and place with chance, and what is gained over it; `path` is the report's file."""
    columns = ["exact", "chance of exact", "place_accuracy", "chance of place_accuracy", "gained over chance"]
    rows = []
    for name, found in report.conditions.items():
        cells: dict[str, Cell] = {}
        for figure in ("exact", "place_accuracy"):
            estimate = found.estimates.get(figure)
            if estimate is None:
                continue
            cells[figure] = Cell.of(estimate)
            if estimate.chance is not None:
                cells[f"chance of {figure}"] = Cell(estimate.chance)
        if (share := gained(found.estimates.get("place_accuracy") or found.estimates["exact"])) is not None:
            cells[columns[-1]] = Cell.of(share)
        rows.append(Row(name, cells, str(path), report.command))
    kind = ", trained on ".join(filter(None, (report.task, report.trained_size)))
    apart = "no source is shared between seen and unseen"
    if report.shared_sources:
        apart = f"{report.shared_sources} sources are BOTH seen and unseen"
    return PaperTable(f"Generalisation of {report.run} ({kind}); {apart}; 95% intervals", columns, rows)
