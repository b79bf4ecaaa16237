"""Arguments that several verbs take in the same form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from jigsaw.errors import JigsawError


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
