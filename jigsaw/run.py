"""A run from recipe to report: data, model, supervised stage, GRPO, evaluation, page.

In: a resolved recipe. Out: a run folder::

    recipe.yaml               the recipe, every interpolation resolved
    data.json                 the folders of the puzzle sets: {"train": [...], "eval": [...]}
    metrics.jsonl             one line per training step and per look at held-out puzzles
    completions.jsonl         some of what GRPO sampled, at intervals
    checkpoints/              of an unfinished stage, to resume from
    adapters/                 of a run with LoRA, before they are merged
    start/ warmup/ model/     checkpoints: a tiny model before training, after the supervised stage, at the end
    predictions/              held-out puzzles with the completions of warmup/ and model/
    evaluation.json           figures on held-out puzzles, with intervals, beside chance
    report.html               all of that to look at
    DONE                      written last: the run is complete

Each of these is written under another name and renamed when whole, so what has its name can be trusted; `resume` skips
it. The logs alone grow line by line, and so do the answers of an evaluation that is not whole yet, in `.answers`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from rich.console import Console

from jigsaw.config.schema import BuildSection, DataEntry, Recipe
from jigsaw.console import RunConsole, StepProgress
from jigsaw.data import build_puzzles
from jigsaw.data.conversations import write_sample_conversations
from jigsaw.data.given import SAMPLES, source_folder
from jigsaw.errors import JigsawError, StoppedError
from jigsaw.launch.checks import ALONE, checked, require_inputs
from jigsaw.launch.requirements import require_machine
from jigsaw.launch.topology import Node, run_processes, torchrun_command
from jigsaw.tasks import get_task
from jigsaw.training.sets import HeldOut, open_set
from jigsaw.training.stages import (
    CHECKPOINTS,
    SCRATCH,
    STOP_FILE,
    Stage,
    adapter_folder,
    merge,
    require_puzzles,
    stages_of,
    train_stage,
)

ANSWERS = ".answers"
"""Where the final evaluation keeps what was answered, until it is whole."""

if TYPE_CHECKING:
    from jigsaw.evaluation.summary import Scored
    from jigsaw.rewards import Composition


def launch(recipe: Recipe, console: Console, *, resume: bool = False, node: Node = ALONE) -> Path:
    """Carry out a recipe.

    Args:
        recipe: resolved and validated.
        console: where progress goes.
        resume: go on with an unfinished run of the same recipe, from its last checkpoint.
        node: this machine's place, where a run spans several.

    Returns:
        The run folder.

    Raises:
        StoppedError: it was asked to stop, and has saved.
        JigsawError: anything about recipe, data, model, machine or folders that the user can mend.
    """
    return _Run(recipe, console, resume, node).carry_out()


class _Run:
    """One run: its folder, and its stages in order."""

    def __init__(self, recipe: Recipe, console: Console, resume: bool, node: Node) -> None:
        self._recipe, self._console, self._resume, self._node = recipe, console, resume, node
        self._folder = Path(recipe.output)
        self._steps = RunConsole(console, recipe)

    def carry_out(self) -> Path:
        self._node.check(self._recipe.distributed)
        require_machine(self._recipe)
        composition = checked(self._recipe)
        if self._node.rank > 0:
            self._follow()
            return self._folder
        require_inputs(self._recipe)
        self._claim_folder()
        data = self._recipe.data
        self._steps.step("data")
        folders = {
            "train": [self._set_of(entry) for entry in data.train],
            "eval": [self._set_of(entry) for entry in data.eval],
        }
        self._heed_stop("after its data")
        train_sets = [open_set(path, entry) for path, entry in zip(folders["train"], data.train, strict=True)]
        heldout = HeldOut([open_set(path, entry) for path, entry in zip(folders["eval"], data.eval, strict=True)])
        record = json.dumps(
            {name: [str(path.resolve()) for path in paths] for name, paths in folders.items()}, indent=2
        )
        self._whole("data.json", lambda path: path.write_text(record, encoding="utf-8"))
        self._train(train_sets)
        self._heed_stop("after its training")
        if len(heldout):
            if (self._folder / "evaluation.json").exists():
                self._steps.step("evaluation")
            else:
                self._evaluate(heldout, composition)
            shutil.rmtree(self._folder / ANSWERS, ignore_errors=True)
        else:
            self._steps.step("evaluation")
        self._write_report()
        self._whole("DONE", lambda path: path.write_text("", encoding="utf-8"))
        return self._folder

    # The folder

    def _claim_folder(self) -> None:
        """Take a new or empty folder, or with `resume` the unfinished one of the same recipe."""
        folder, resolved = self._folder, OmegaConf.to_yaml(OmegaConf.create(self._recipe.model_dump(mode="json")))
        record = folder / "recipe.yaml"
        if folder.exists() and not folder.is_dir():
            raise JigsawError(f"output: {folder} is a file; choose another with output=FOLDER")
        # A disk that was full at the very first file leaves nothing but that file's beginning; so does an early stop.
        if folder.is_dir() and any(entry.name not in {".recipe.yaml.partial", STOP_FILE} for entry in folder.iterdir()):
            if not record.is_file():
                raise JigsawError(
                    f"output: {folder} holds something else than a run; choose another with output=FOLDER"
                )
            if (folder / "DONE").exists():
                raise JigsawError(f"output: {folder} holds a finished run; choose another with output=FOLDER")
            if record.read_text(encoding="utf-8") != resolved:
                raise JigsawError(f"output: {folder} holds a run of another recipe; choose another with output=FOLDER")
            if not self._resume:
                raise JigsawError(
                    f"output: {folder} holds an unfinished run; --resume goes on, output=FOLDER starts anew"
                )
        elif self._resume:
            raise JigsawError(f"output: {folder} holds no run to resume")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STOP_FILE).unlink(missing_ok=True)  # of an earlier turn; other nodes may have looked until its end
        self._whole("recipe.yaml", lambda path: path.write_text(resolved, encoding="utf-8"))

    def _whole(self, name: str, write: Callable[[Path], object]) -> Path:
        """Make a file or folder of the run unless it is there: written under another name, renamed when whole."""
        target = self._folder / name
        partial = target.with_name(f".{target.name}.partial")
        if not target.exists():
            if partial.is_dir():
                shutil.rmtree(partial)
            write(partial)
            partial.replace(target)
        return target

    def _heed_stop(self, where: str) -> None:
        """End the run here if it was asked to stop."""
        if (self._folder / STOP_FILE).exists():
            raise StoppedError(f"{self._folder}: stopped and saved, {where}; --resume goes on")

    # Data

    def _set_of(self, entry: DataEntry) -> Path:
        if entry.build is not None:
            return self._build(entry.build)
        if entry.conversations == SAMPLES:
            return self._sample_conversations()
        if entry.conversations is not None:
            return Path(entry.conversations)
        assert entry.path is not None  # the schema has seen to it
        return Path(entry.path)

    def _build(self, build: BuildSection) -> Path:
        kind = get_task(build.task, **build.config).source_kind
        source = source_folder(build.source, kind, Path(self._recipe.data.folder))
        settings = json.dumps([build.model_dump(mode="json"), str(source.resolve()), *_listing(source)])
        digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
        target = Path(self._recipe.data.folder) / f"{Path(build.task).stem}-{build.split or 'all'}-{digest}"
        summary = build_puzzles(
            build.task,
            source,
            target,
            config=build.config,
            per_source=build.per_source,
            limit=build.limit,
            seed=build.seed,
            split=build.split,
            heldout=build.heldout,
            materialize=build.materialize,
        )
        how = "built" if summary.parts_built else "built before"
        rejects = sum(summary.counts.rejects.values())
        told = f"; {rejects:,} rejected, see {target / 'rejects.jsonl'}" if rejects else ""
        self._steps.note(f"{summary.counts.puzzles:,} {build.task} puzzles in {target} ({how}){told}")
        return target

    def _sample_conversations(self) -> Path:
        folder = Path(self._recipe.data.folder)
        photos = source_folder(SAMPLES, "image", folder) / "train"
        return write_sample_conversations(photos, folder / "sample-conversations.jsonl")

    # Training

    def _train(self, train_sets: Sequence[Any]) -> None:
        """The stages that are not done yet; each leaves its checkpoint under its name."""
        from jigsaw.training import serving

        recipe, folder = self._recipe, self._folder
        require_puzzles(recipe, train_sets)
        self._steps.step("model", recipe.model.path or "")
        if recipe.model.tiny is not None:
            self._make_tiny(recipe.model.tiny, train_sets)
        for number, stage in enumerate(stages_of(recipe, folder)):
            if (folder / stage.out).exists():
                continue
            self._heed_stop(f"before stage {stage.name}")
            for name in (f"predictions/{stage.out}.jsonl", "evaluation.json", "report.html"):
                (folder / name).unlink(missing_ok=True)  # of weights that are no more
            if not self._made(stage):
                self._train_stage(stage, number)
            if recipe.model.lora is not None:
                self._whole(stage.out, functools.partial(merge, recipe, stage, folder))
        for name in (SCRATCH, CHECKPOINTS, serving.FOLDER):
            shutil.rmtree(folder / name, ignore_errors=True)

    def _train_stage(self, stage: Stage, number: int) -> None:
        with self._server(stage):
            if self._in_this_process():
                train_stage(self._recipe, stage, self._folder, self._console)
            else:
                self._run_processes(stage, number)
        if not self._made(stage):
            raise StoppedError(f"{self._folder}: stopped and saved, in stage {stage.name}; --resume goes on")
        shutil.rmtree(self._folder / CHECKPOINTS / stage.name, ignore_errors=True)

    def _made(self, stage: Stage) -> bool:
        """Whether a stage has left its checkpoint, or the adapters that one is made of."""
        return (self._folder / stage.out).exists() or adapter_folder(self._folder, stage).exists()

    def _server(self, stage: Stage) -> AbstractContextManager[None]:
        """What samples for a stage, if that is a server."""
        from jigsaw.training.serving import serving

        if stage.name != "grpo" or not self._recipe.rollout.served:
            return nullcontext()
        return serving(self._recipe, stage.start, self._folder, self._node.first, self._console)

    def _in_this_process(self) -> bool:
        """Whether training needs no processes of its own: one process is asked for, and one GPU at most is in sight."""
        import torch

        return not self._recipe.distributed.several and torch.cuda.device_count() <= 1

    def _run_processes(self, stage: Stage, number: int) -> None:
        section = self._recipe.distributed
        command = torchrun_command(section, self._node, self._folder, stage.name, number)
        run_processes(command, section, self._folder / STOP_FILE)

    def _follow(self) -> None:
        """Train beside the first node, which does everything else; stages that it had done before are skipped."""
        stages = enumerate(stages_of(self._recipe, self._folder))
        left = [(number, stage) for number, stage in stages if not self._made(stage)]
        for number, stage in left:
            self._run_processes(stage, number)
            if stage != left[-1][1] or not self._made(stage):
                self._heed_stop(f"in stage {stage.name}")

    def _make_tiny(self, architecture: str, train_sets: Sequence[Any]) -> None:
        from jigsaw.models.tiny import build_tiny

        def write(path: Path) -> None:
            parameters = build_tiny(architecture, self._recipe.model.sizes, _texts(train_sets), path)
            self._steps.note(f"{architecture} with {parameters:,} parameters, from random weights")

        self._whole("start", write)

    # Evaluation

    def _evaluate(self, heldout: HeldOut, composition: Composition) -> None:
        from jigsaw.evaluation.breakdown import figures_of
        from jigsaw.evaluation.summary import gain
        from jigsaw.models.load import load_processor
        from jigsaw.models.prompts import completion_tokens

        composition.tokenize = completion_tokens(load_processor(str(self._folder / "model")))
        scored: dict[str, list[Scored]] = {}
        figures: dict[str, Any] = {}
        made = {"heldout": "model", "warmup": "warmup"}
        stages = {name: stage for name, stage in made.items() if (self._folder / stage).is_dir()}
        with self._steps.progress("evaluation", "puzzle") as progress:
            progress.start(len(stages) * len(heldout), detail=" and ".join(f"{stage}/" for stage in stages.values()))
            for name, stage in stages.items():
                scored[name], solved = self._predictions(stage, heldout, composition, progress)
                figures[name] = figures_of(solved, scored[name], composition)
        if "warmup" in scored:
            figures["gain"] = gain(scored["warmup"], scored["heldout"])
        self._whole("evaluation.json", lambda path: path.write_text(json.dumps(figures, indent=2), encoding="utf-8"))

    def _predictions(
        self, stage: str, heldout: HeldOut, composition: Composition, progress: StepProgress
    ) -> tuple[list[Scored], list[dict[str, Any]]]:
        """Completions of one checkpoint on all held-out puzzles, scored; also written, one JSON object a line."""
        from jigsaw.evaluation.summary import score

        solved = [row for rows in self._answers(stage, heldout, progress) for row in rows]
        scored = score(solved, composition)
        (self._folder / "predictions").mkdir(exist_ok=True)
        lines = "".join(json.dumps(asdict(item)) + "\n" for item in scored)
        self._whole(f"predictions/{stage}.jsonl", lambda path: path.write_text(lines, encoding="utf-8"))
        return scored, solved

    def _answers(self, stage: str, heldout: HeldOut, progress: StepProgress) -> list[list[dict[str, Any]]]:
        """Per held-out puzzle the answer of one checkpoint; what these weights have answered is not asked again."""
        from jigsaw.evaluation.completions import Completions, file_stamp
        from jigsaw.evaluation.engines import Generation, open_engine
        from jigsaw.evaluation.solve import complete_left

        recipe, checkpoint = self._recipe, self._folder / stage
        generation = Generation(
            dtype=recipe.model.dtype,
            batch_size=recipe.evaluation.batch_size,
            max_new_tokens=recipe.completion_limit,
        )
        settings = {"model": stage, "model_stamp": file_stamp(checkpoint), **generation.settings()}
        place = self._folder / ANSWERS / f"{stage}-{settings['model_stamp']}"
        place.mkdir(parents=True, exist_ok=True)

        def on_batch(count: int) -> None:
            progress.advance(count)
            self._heed_stop("in its evaluation")

        with Completions(place, settings) as kept:
            return complete_left(
                lambda: open_engine(str(checkpoint), generation),
                heldout.ids,
                heldout.__getitem__,
                kept,
                batch_size=generation.batch_size,
                on_batch=on_batch,
            )

    def _write_report(self) -> None:
        """The page, which replaces what was written while the run trained."""
        from jigsaw.report import write_report

        write_report([self._folder], self._folder / "report.html")


def _texts(train_sets: Sequence[Any]) -> Iterator[str]:
    """What a tiny model's tokenizer learns from: the prompts and answers of each set's first rows."""
    from jigsaw.training.sft import with_answer

    for puzzles in train_sets:
        for row in (with_answer(puzzles[i]) for i in range(min(64, len(puzzles)))):
            yield from ("system\nYou are a helpful assistant.", "user\n", "assistant\n", "\n")
            turns = [*row["prompt"], *row["completion"]]
            yield from (part["text"] for turn in turns for part in turn["content"] if part["type"] == "text")


def _listing(source: Path) -> list[list[str | int]]:
    """Names and sizes of a file, or below a folder: what tells that a puzzle set was built from just these."""
    if source.is_file():
        return [[source.name, source.stat().st_size]]
    return sorted([str(file.relative_to(source)), file.stat().st_size] for file in source.rglob("*") if file.is_file())
