"""The run folder: the names of its files, how they are written, and its lock.

In: the folder of a run, `output` of its recipe. Out: paths for training, evaluation, report and the commands. All files
except the two logs are written under a temporary name and renamed when they are complete, so an existing file is
always complete::

    recipe.yaml               the recipe, with all defaults and references resolved
    run.json                  version, command, packages, machine and seeds of the run
    data.json                 the folders of the puzzle sets
    metrics.jsonl             one line per training step and per periodic evaluation
    completions.jsonl         some completions of GRPO, at intervals
    checkpoints/ adapters/    checkpoints of an unfinished stage; LoRA adapters before they are merged
    start/ warmup/ model/     models: the tiny model before training, after the supervised stage, at the end
    predictions/              held-out puzzles with the completions of warmup/ and model/; in NAME/ for a named set
    evaluation.json           held-out scores with intervals, compared with chance
    report.html               a page about the run
    DONE                      written last: the run is complete
    .lock .stop .trl/ ...     lock, stop request, scratch files
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jigsaw.config.fresh import RECIPE
from jigsaw.errors import JigsawError, StoppedError
from jigsaw.files import TEMPORARY, atomic_path
from jigsaw.run_lock import HOLDER, LOCK, locked, read_holder
from jigsaw.text import named, read_object

if TYPE_CHECKING:
    from jigsaw.config.schema import Recipe
    from jigsaw.recipe_sets import HeldOut

STOP = ".stop"
DONE = "DONE"


class RunFolder:
    """The folder of one run.

    Args:
        path: the folder; it need not exist.

    Attributes:
        path: the folder.
        recipe, info, data, metrics, completions, evaluation, report, done: the files of the table above.
        start: the tiny model before training.
        stop: the file of a stop request.
        answers: completions of the final evaluation while it is unfinished.
        scratch: the folder that trainers write to.
        server, server_log: the model that a vLLM server opens, and the server's output.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.recipe = self.path / RECIPE
        self.info = self.path / "run.json"
        self.data = self.path / "data.json"
        self.metrics = self.path / "metrics.jsonl"
        self.completions = self.path / "completions.jsonl"
        self.start = self.path / "start"
        self.evaluation = self.path / "evaluation.json"
        self.report = self.path / "report.html"
        self.done = self.path / DONE
        self.stop = self.path / STOP
        self.answers = self.path / ".answers"
        self.scratch = self.path / ".trl"
        self.server = self.path / ".server"
        self.server_log = self.path / "server.log"

    def __str__(self) -> str:
        return str(self.path)

    def model(self, name: str) -> Path:
        """A model of the run: `start`, `warmup` or `model`."""
        return self.path / name

    def predictions(self, name: str, set_name: str | None = None) -> Path:
        """The scored completions of a model of the run, on the held-out set without a name or on a named one."""
        return self.path / "predictions" / (set_name or "") / f"{name}.jsonl"

    def checkpoints(self, stage: str) -> Path:
        """The folder of an unfinished stage's checkpoints, `checkpoint-N`."""
        return self.path / "checkpoints" / stage

    def adapters(self, stage: str) -> Path:
        """The adapters of a stage that trained with LoRA."""
        return self.path / "adapters" / stage

    def write_once(self, path: Path, write: Callable[[Path], object]) -> None:
        """Write a file or folder of the run unless it exists.

        Args:
            path: one of the paths of this class.
            write: called with a temporary path, to which it writes the file or folder.
        """
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as partial:
                write(partial)

    def write_text_once(self, path: Path, text: str) -> None:
        """Write a text file of the run unless it exists."""
        self.write_once(path, lambda partial: partial.write_text(text, encoding="utf-8"))

    def remove_results(self, model: str) -> None:
        """Remove the results of weights that are about to be replaced."""
        named = (self.path / "predictions").glob(f"*/{model}.jsonl")
        for file in (self.predictions(model), *named, self.evaluation, self.report):
            file.unlink(missing_ok=True)

    def remove_training_files(self) -> None:
        """Remove the files that only an unfinished training needs."""
        for folder in (self.scratch, self.path / "checkpoints", self.server):
            shutil.rmtree(folder, ignore_errors=True)

    def finish(self) -> None:
        """Mark the run as complete, and remove the files that only an unfinished evaluation needs."""
        shutil.rmtree(self.answers, ignore_errors=True)
        self.write_text_once(self.done, "")

    def saved(self) -> str:
        """The results that a run has saved so far, for the message of a run that ends at once."""
        models = [name for name in ("start", "warmup", "model") if self.model(name).exists()]
        latest = {stage: latest_checkpoint(self.checkpoints(stage)) for stage in ("sft", "grpo")}
        steps = {stage: checkpoint_step(path) for stage, path in latest.items() if path is not None}
        saved = [f"{name}/" for name in models] + [f"steps 1 to {step} of {stage}" for stage, step in steps.items()]
        return f"it keeps {', '.join(saved)}" if saved else "nothing was trained yet"

    def read_sets(self) -> dict[str, Any]:
        """The content of `data.json`: the folders of the sets for `train` and `eval`, and `ids`, a digest of each.

        Raises:
            JigsawError: the file is missing or damaged.
        """
        remedy = "restore it, or start anew with output=FOLDER"
        record = read_object(self.data, remedy)
        digests = record.setdefault("ids", {"train": [], "eval": []})
        for side in ("train", "eval"):
            ids = digests.get(side) if isinstance(digests, dict) else None
            for key, texts in ((side, record.get(side)), (f"ids.{side}", ids)):
                if not isinstance(texts, list) or not all(isinstance(text, str) and "\0" not in text for text in texts):
                    raise JigsawError(f"{self.data}: {key} is {named(texts)}, not a list of strings; {remedy}")
        return record

    def open_train(self, recipe: Recipe) -> list[Any]:
        """The training sets of the run, one per entry of `data.train`."""
        from jigsaw.recipe_sets import open_set

        paths = self.read_sets()["train"]
        return [open_set(Path(path), entry) for path, entry in zip(paths, recipe.data.train, strict=True)]

    def open_heldout(self, recipe: Recipe) -> HeldOut:
        """The held-out rows of the run."""
        from jigsaw.recipe_sets import HeldOut, open_set

        paths = self.read_sets()["eval"]
        sets = [open_set(Path(path), entry) for path, entry in zip(paths, recipe.data.eval, strict=True)]
        return HeldOut(sets, recipe.data.eval)

    def require_usable(self, recipe: Recipe, *, resume: bool) -> None:
        """Check that `locked` would accept the folder, without writing anything.

        Raises:
            JigsawError: it would not.
        """
        if read_holder(self.path) is None:
            try:
                self._refuse_unless_own(_as_yaml(recipe), resume)
            except JigsawError:
                if read_holder(self.path) is None:  # otherwise a run began meanwhile, and the lock's error names it
                    raise

    @contextmanager
    def locked(self, recipe: Recipe, *, resume: bool) -> Iterator[None]:
        """Lock the folder for one run for the duration of the block.

        The folder must be new or empty or, with `resume`, that of an unfinished run of the same recipe. If the block
        fails before anything but the recipe is written, the folder is removed again.

        Raises:
            JigsawError: the folder is in use, or contains something else.
        """
        resolved = _as_yaml(recipe)
        self.require_usable(recipe, resume=resume)  # before locking, which writes a file to the folder
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path):
            self._refuse_unless_own(resolved, resume)
            self._clean()
            try:
                self.write_text_once(self.recipe, resolved)
                yield
            except StoppedError:
                raise
            except Exception:
                self._remove_if_nothing_was_done()
                raise
            if self.done.exists():  # a process that locks the removed file later sees a finished run
                (self.path / LOCK).unlink(missing_ok=True)

    def _refuse_unless_own(self, resolved: str, resume: bool) -> None:
        """Refuse a folder with other content, a finished run or, without `resume`, an unfinished run."""
        folder = self.path
        if folder.exists() and not folder.is_dir():
            raise JigsawError(f"output: {folder} is a file; choose another with output=FOLDER")
        if not folder.is_dir() or all(map(_is_leftover, folder.iterdir())):
            if resume:
                raise JigsawError(f"output: {folder} has no run to resume")
            return
        if not self.recipe.is_file():
            raise JigsawError(f"output: {folder} is not a run folder; choose another with output=FOLDER")
        if self.done.exists():
            raise JigsawError(f"output: {folder} has a finished run; choose another with output=FOLDER")
        if self.recipe.read_text(encoding="utf-8") != resolved:
            raise JigsawError(f"output: {folder} has a run of another recipe; choose another with output=FOLDER")
        if not resume:
            raise JigsawError(
                f"output: {folder} has an unfinished run; --resume continues it, output=FOLDER starts a new one"
            )

    def _clean(self) -> None:
        """Remove the temporary files and the stop request of a killed run."""
        self.stop.unlink(missing_ok=True)
        shutil.rmtree(self.scratch, ignore_errors=True)
        for folder in (self.path, self.path / "predictions", *self.path.glob("predictions/*/"), self.path / "adapters"):
            for entry in folder.glob(f".*{TEMPORARY}"):
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)

    def _remove_if_nothing_was_done(self) -> None:
        """Remove the folder if only the recipe is in it, so that the corrected recipe can use it."""
        known = {self.recipe, self.info}
        if any(entry not in known and not _is_leftover(entry) for entry in self.path.iterdir()):
            return
        for file in (*known, self.path / LOCK, self.path / HOLDER, self.stop):
            file.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()


def _as_yaml(recipe: Recipe) -> str:
    """A recipe as it is written to its run folder."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(recipe.model_dump(mode="json")))


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the highest step in a folder of `checkpoint-N`; None if there is none."""
    return max(folder.glob("checkpoint-*"), key=checkpoint_step, default=None)


def checkpoint_step(checkpoint: Path) -> int:
    """The step after which a checkpoint was taken."""
    return int(checkpoint.name.rpartition("-")[2])


def _is_leftover(entry: Path) -> bool:
    """Whether an entry of a folder is left over from a run that ended early; such a folder counts as empty."""
    return entry.name in {LOCK, HOLDER, STOP} or entry.name.endswith(TEMPORARY)
