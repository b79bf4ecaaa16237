"""Arguments that several verbs take in the same form."""

from __future__ import annotations

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
