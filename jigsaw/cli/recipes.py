"""Commands about recipes: list those that ship, show one, start one of your own, and what editors know of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from jigsaw.cli.groups import command_group
from jigsaw.cli.printing import AsJson, print_table

recipes = command_group(
    "List the recipes, show one, or start one of your own.", "jigsaw recipes init mine.yaml --from image-qwen2.5-vl-7b"
)

Recipe = Annotated[str, typer.Argument(help="A recipe that ships, or a file.")]


@recipes.callback()
def list_recipes(context: typer.Context, as_json: AsJson = False) -> None:
    """List the recipes, show one, or start one of your own."""
    if context.invoked_subcommand is None:
        from jigsaw.launch.estimate_text import shipped_recipes
        from jigsaw.listings import recipes_table

        found = shipped_recipes()
        typer.echo(json.dumps(found, indent=2)) if as_json else print_table(recipes_table(found))


@recipes.command("show", epilog="Example: jigsaw recipes show image-qwen2.5-vl-7b")
def show_recipe(name: Recipe) -> None:
    """Print a recipe's file; its head says which data it needs and how to get them.

    `jigsaw launch NAME --dry-run` prints it with everything that it extends.
    """
    from jigsaw.config.loading import find_recipe

    typer.echo(find_recipe(name).read_text(encoding="utf-8"), nl=False)


@recipes.command("init", epilog="Example: jigsaw recipes init mine.yaml --from image-qwen2.5-vl-7b")
def init_recipe(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    extends: Annotated[str, typer.Option("--from", help="The recipe that it extends.")] = "quickstart",
) -> None:
    """Write a recipe of your own that extends another one, with the keys that people change first."""
    from jigsaw.config.starter import write_starter

    write_starter(file, extends)
    typer.echo(f"{file}: extends {extends}; change it, then: jigsaw launch {file} --dry-run")


@recipes.command("schema", epilog="Example: jigsaw recipes schema > recipe.schema.json")
def print_schema() -> None:
    """Print the JSON schema of recipes, with which editors complete keys and mark mistakes.

    The first line of a recipe names it: `# yaml-language-server: $schema=recipe.schema.json`.
    """
    from jigsaw.config.json_schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
