"""Arguments that several verbs take in the same form."""

from __future__ import annotations

import typer


def key_values(items: list[str]) -> dict[str, str]:
    """`["grid=2x2"]` as a dict."""
    for item in items:
        if "=" not in item:
            raise typer.BadParameter(f"{item!r} is not of the form KEY=VALUE", param_hint="KEY=VALUE")
    return dict(item.split("=", 1) for item in items)
