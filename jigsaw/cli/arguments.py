"""Arguments that several commands take in the same form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from jigsaw.errors import JigsawError

Engine = Annotated[str, typer.Option(help="transformers or vllm.")]
Dtype = Annotated[str, typer.Option(help="float32 or bfloat16.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Prompts generated together.")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Most tokens of a completion.")]
SourceRoot = Annotated[Path | None, typer.Option(help="Where the sources are now, if they moved.")]
TaskSpec = Annotated[str | None, typer.Option(help="The plug-in task that built the set.")]


def key_values(items: list[str]) -> dict[str, str]:
    """`["grid=2x2"]` as a dict."""
    for item in items:
        if "=" not in item:
            raise typer.BadParameter(f"{item!r} is not of the form KEY=VALUE", param_hint="KEY=VALUE")
    return dict(item.split("=", 1) for item in items)


def require_sets(*folders: Path | None) -> None:
    """Refuse a puzzle set that is not there before anything is imported to read it.

    Raises:
        JigsawError: one is no folder.
    """
    for folder in folders:
        if folder is not None and not folder.is_dir():
            raise JigsawError(f"{folder} is no folder; give one that `jigsaw build` wrote")


def require_runs(*folders: Path) -> None:
    """Refuse a run or evaluation that is not there, likewise.

    Raises:
        JigsawError: one is no folder.
    """
    for folder in folders:
        if not folder.is_dir():
            raise JigsawError(f"{folder} is no folder: name a folder that `jigsaw launch` or `jigsaw eval --out` made")


def require_model(path: str) -> None:
    """Refuse a local checkpoint that is not there, likewise; an id on the hub passes.

    Raises:
        JigsawError: it is no folder.
    """
    from jigsaw.models.checkpoint_files import is_local

    if is_local(path) and not Path(path).is_dir():
        raise JigsawError(f"{path}: no such checkpoint folder")


def checkpoint_of(model: str) -> str:
    """A checkpoint folder or hub id; of a run folder its model.

    Raises:
        JigsawError: the folder is not there, or the run has no model yet.
    """
    from jigsaw.evaluation.runs import is_run, trained_model

    require_model(model)
    return str(trained_model(Path(model))) if is_run(model) else model


def results_folder(out: Path | None, benchmark: str, model: str) -> Path:
    """The folder that a benchmark's results go to: as given, else `evals/BENCHMARK-MODEL`."""
    return out or Path("evals") / f"{benchmark}-{model.strip('./').replace('/', '-')}"


def grid_size(text: str) -> tuple[int, int]:
    """Rows and columns from `3x3`."""
    rows, cross, columns = text.partition("x")
    if not (cross and rows.isdecimal() and columns.isdecimal() and int(rows) * int(columns) > 1):
        raise typer.BadParameter(f"{text!r} is not of the form RxC", param_hint="--grid")
    return int(rows), int(columns)


def task_keys(task: str) -> list[str]:
    """The configuration keys of a task; none where it cannot be found, which whoever builds with it says."""
    import dataclasses

    from jigsaw.tasks import TaskError, find_task

    try:
        return [field.name for field in dataclasses.fields(find_task(task).Config)]
    except TaskError:
        return []


def task_setting(words: Sequence[str], option: str) -> str | None:
    """What to write instead of an unknown option of `jigsaw build` that is a key of its task; None for another.

    Args:
        words: the command line after `jigsaw`.
        option: as typed, `--grid`, perhaps with `=3x3`.
    """
    if len(words) < 2 or words[0] != "build":
        return None
    name, equals, value = option.lstrip("-").partition("=")
    key = name.replace("-", "_")
    if key not in next((keys for word in words[1:] if (keys := task_keys(word))), ()):
        return None
    given = [at for at, word in enumerate(words) if word.partition("=")[0] == f"--{name}"]
    if not equals and given:
        typed = words[given[0]]
        value = typed.partition("=")[2] or (words[given[0] + 1] if given[0] + 1 < len(words) else "")
    return f"{key} is a setting of the task: write {key}={value or 'VALUE'}"
