"""Arguments that several commands share, and the line that answers wrong ones."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from jigsaw.errors import JigsawError

Engine = Annotated[str, typer.Option(help="transformers or vllm.")]
Dtype = Annotated[str, typer.Option(help="float32 or bfloat16.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Prompts in a generation batch.")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Maximum tokens of a completion.")]
SourceRoot = Annotated[Path | None, typer.Option(help="Folder of the sources, if they have moved since the build.")]
TaskSpec = Annotated[str | None, typer.Option(help="The plug-in task that built the set.")]


def key_values(items: list[str]) -> dict[str, str]:
    """`["grid=2x2"]` as a dict."""
    for item in items:
        if "=" not in item:
            raise typer.BadParameter(f"{item!r} is not of the form KEY=VALUE", param_hint="KEY=VALUE")
    return dict(item.split("=", 1) for item in items)


def require_sets(*folders: Path | None) -> None:
    """Check that puzzle set folders exist, before the libraries that read them are imported.

    Raises:
        JigsawError: a path is not a folder.
    """
    for folder in folders:
        if folder is not None and not folder.is_dir():
            raise JigsawError(f"{folder} is not a folder; give one that `jigsaw build` wrote")


def require_runs(*folders: Path) -> None:
    """Check that folders of runs or evaluations exist.

    Raises:
        JigsawError: a path is not a folder.
    """
    for folder in folders:
        if not folder.is_dir():
            raise JigsawError(f"{folder} is not a folder; give one that `jigsaw launch` or `jigsaw eval --out` wrote")


def require_model(path: str) -> None:
    """Check that a local checkpoint folder exists; a hub id is not checked.

    Raises:
        JigsawError: the path is not a folder.
    """
    from jigsaw.models.checkpoint_files import is_local

    if is_local(path) and not Path(path).is_dir():
        raise JigsawError(f"{path}: no such checkpoint folder")


def checkpoint_of(model: str) -> str:
    """The checkpoint that an argument names: the model of a run folder, otherwise the folder or hub id itself.

    Raises:
        JigsawError: the folder does not exist, or the run has no model yet.
    """
    from jigsaw.evaluation.runs import is_run, trained_model

    require_model(model)
    return str(trained_model(Path(model))) if is_run(model) else model


def results_folder(out: Path | None, benchmark: str, model: str) -> Path:
    """The folder for a benchmark's results: `out`, or `evals/BENCHMARK-MODEL` if it is None."""
    return out or Path("evals") / f"{benchmark}-{model.strip('./').replace('/', '-')}"


def grid_size(text: str) -> tuple[int, int]:
    """Rows and columns from `3x3`."""
    rows, cross, columns = text.partition("x")
    if not (cross and rows.isdecimal() and columns.isdecimal() and int(rows) * int(columns) > 1):
        raise typer.BadParameter(f"{text!r} is not of the form RxC", param_hint="--grid")
    return int(rows), int(columns)


def task_keys(task: str) -> list[str]:
    """The configuration keys of a task; empty if there is no such task, which the build reports."""
    import dataclasses

    from jigsaw.tasks import TaskError, find_task

    try:
        return [field.name for field in dataclasses.fields(find_task(task).Config)]
    except TaskError:
        return []


def task_setting(words: Sequence[str], option: str) -> str | None:
    """The correction for an unknown option of `jigsaw build` that is a key of its task; None for any other option.

    Args:
        words: the command line after `jigsaw`.
        option: the option as typed, `--grid` or `--grid=3x3`.
    """
    if len(words) < 2 or words[0] != "build":
        return None
    name, equals, value = option.lstrip("-").partition("=")
    key = name.replace("-", "_")
    if key not in next((keys for word in words[1:] if (keys := task_keys(word))), ()):
        return None
    places = [at for at, word in enumerate(words) if word.partition("=")[0] == f"--{name}"]
    if not equals and places:
        typed = words[places[0]]
        value = typed.partition("=")[2] or (words[places[0] + 1] if places[0] + 1 < len(words) else "")
    return f"{key} is a setting of the task: write {key}={value or 'VALUE'}"


def wrong_usage(error: typer.TyperException) -> str:
    """The line for wrong arguments of a command; the help if there are no arguments."""
    message = error.format_message()
    if len(sys.argv) == 1:
        return message
    option = getattr(error, "option_name", None)
    if option and (correction := task_setting(sys.argv[1:], option)):
        message = correction
    elif close := getattr(error, "possibilities", None):
        message = f"{error.message}: did you mean {close[0]}?"
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "jigsaw"
    return f"{command}: {message[0].lower()}{message[1:].rstrip('.')} (see {command} --help)"
