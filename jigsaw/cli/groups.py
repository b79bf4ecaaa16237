"""Command groups, such as `jigsaw tasks`, which has the subcommands `show` and `check`."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup


class NameOrCommand(TyperGroup):
    """`jigsaw tasks NAME` is short for `jigsaw tasks show NAME`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first word names, otherwise `show`."""
        return super().resolve_command(ctx, args if args[0] in self.commands else ["show", *args])


def command_group(about: str, example: str) -> typer.Typer:
    """A command that prints a list, shows one entry by name, and has further subcommands."""
    return typer.Typer(
        cls=NameOrCommand,
        help=about,
        epilog=f"Example: {example}",
        invoke_without_command=True,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
