"""The command `jigsaw recipes`: list the shipped recipes, show one, start your own, print the JSON schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from jigsaw.cli.groups import command_group
from jigsaw.cli.printing import AsJson, print_listing

recipes = command_group(
    "List the shipped recipes, show one, or start your own.",
    "jigsaw recipes init mine.yaml --from image-qwen2.5-vl-7b",
)

Recipe = Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.")]


@recipes.callback()
def list_recipes(context: typer.Context, as_json: AsJson = False) -> None:
    """List the shipped recipes, show one, or start your own."""
    if context.invoked_subcommand is None:
        from jigsaw.launch.estimate_text import shipped_recipes
        from jigsaw.listings import recipes_table

        rows = shipped_recipes()
        typer.echo(json.dumps(rows, indent=2)) if as_json else print_listing(recipes_table(rows))


@recipes.command("show", epilog="Example: jigsaw recipes show image-qwen2.5-vl-7b")
def show_recipe(name: Recipe) -> None:
    """Print the file of a recipe.

    The comment at its start says which data it needs and how to get them. `jigsaw launch NAME --dry-run` prints the
    recipe merged with the recipes that it extends.
    """
    from jigsaw.config.loading import find_recipe

    typer.echo(find_recipe(name).read_text(encoding="utf-8"), nl=False)


@recipes.command("init", epilog="Example: jigsaw recipes init mine.yaml --from image-qwen2.5-vl-7b")
def init_recipe(
    file: Annotated[Path, typer.Argument(help="The YAML file to write; it must not exist yet.")],
    extends: Annotated[str, typer.Option("--from", help="The recipe to extend.")] = "quickstart",
) -> None:
    """Write a recipe that extends another one.

    The keys that are changed most often are in the file as comments, with their present values.
    """
    from jigsaw.config.starter import write_starter

    write_starter(file, extends)
    typer.echo(f"{file}: extends {extends}; edit it, then: jigsaw launch {file} --dry-run")


@recipes.command("schema", epilog="Example: jigsaw recipes schema > recipe.schema.json")
def print_schema() -> None:
    """Print the JSON schema of recipes.

    Editors use it to complete keys and mark mistakes, once the first line of a recipe names its file:
    `# yaml-language-server: $schema=recipe.schema.json`.
    """
    from jigsaw.config.json_schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
