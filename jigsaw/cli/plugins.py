"""Commands about tasks and rewards, built-in and third-party: list, show, check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from jigsaw.cli.arguments import key_values
from jigsaw.cli.groups import command_group
from jigsaw.cli.printing import AsJson, print_table

Name = Annotated[str, typer.Argument(help="A name, package.module:name or path/to/file.py:name.")]
Options = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Its options.")]


tasks = command_group("List the tasks, show one, or check a plug-in.", "jigsaw tasks check my_tasks.py:Mine grid=2x2")
rewards = command_group(
    "List the rewards, show one, or check a plug-in.", "jigsaw rewards check my_rewards.py:brevity limit=50"
)


@tasks.callback()
def list_tasks(context: typer.Context, as_json: AsJson = False) -> None:
    """List the tasks, show one, or check a plug-in."""
    if context.invoked_subcommand is None:
        from jigsaw.listings import tasks_table
        from jigsaw.tasks import describe_task, task_names

        found = [describe_task(known) for known in task_names()]
        typer.echo(json.dumps(found, indent=2)) if as_json else print_table(tasks_table(found))


@tasks.command("show", epilog="Example: jigsaw tasks show image")
def show_task(name: Name, as_json: AsJson = False) -> None:
    """Show a task and its configuration."""
    from jigsaw.listings import task_table
    from jigsaw.tasks import describe_task

    one = describe_task(name)
    typer.echo(json.dumps(one, indent=2)) if as_json else print_table(task_table(one))


@tasks.command("check", epilog="Example: jigsaw tasks check my_tasks.py:Mine grid=2x2")
def check_task(
    name: Name,
    options: Options = None,
    source: Annotated[Path | None, typer.Option(help="Sources that suit the task.  [default: made-up ones]")] = None,
    as_json: AsJson = False,
) -> None:
    """Check whether a task keeps its contract.

    The exit code is 1 if a property of the contract does not hold, or could not be checked.
    """
    from jigsaw.testing import check_task

    _print_findings(name, check_task(name, source=source, **key_values(options or [])), as_json)


@rewards.callback()
def list_rewards(context: typer.Context, as_json: AsJson = False) -> None:
    """List the rewards, show one, or check a plug-in."""
    if context.invoked_subcommand is None:
        from dataclasses import asdict

        from jigsaw.listings import rewards_table
        from jigsaw.rewards import list_rewards

        found = list_rewards()
        shown = [asdict(info) for info in found]
        typer.echo(json.dumps(shown, indent=2)) if as_json else print_table(rewards_table(found))


@rewards.command("show", epilog="Example: jigsaw rewards show visual_jigsaw")
def show_reward(name: Name, as_json: AsJson = False) -> None:
    """Show a reward and its options."""
    from dataclasses import asdict

    from jigsaw.listings import reward_table
    from jigsaw.rewards import describe_reward

    info = describe_reward(name)
    typer.echo(json.dumps(asdict(info), indent=2)) if as_json else print_table(reward_table(info))


@rewards.command("check", epilog="Example: jigsaw rewards check my_rewards.py:brevity limit=50")
def check_reward(
    name: Name,
    options: Options = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A column of your rows; may be given again."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check whether a reward keeps its contract.

    The exit code is 1 if a property of the contract does not hold, or could not be checked.
    """
    import yaml

    from jigsaw.testing import check_reward

    typed, columns = (
        {key: yaml.safe_load(value) for key, value in key_values(items or []).items()} for items in (options, column)
    )
    _print_findings(name, check_reward(name, columns=columns, **typed), as_json)


def _print_findings(plugin: str, found: list[Any], as_json: bool) -> None:
    """One line per property; exit code 1 if one does not hold or was not checked."""
    from jigsaw.testing import findings_table

    broken = sum(finding.ok is False for finding in found)
    unchecked = sum(not finding.checked for finding in found)
    if as_json:
        told = [
            {"property": finding.name, "holds": finding.ok, "checked": finding.checked, "detail": finding.detail}
            for finding in found
        ]
        ok = not (broken or unchecked)
        typer.echo(json.dumps({"name": plugin, "ok": ok, "findings": told}, indent=2))
    else:
        print_table(findings_table(found))
        verdicts = [f"{broken} of {len(found)} properties do not hold"] * bool(broken)
        verdicts += [f"not checked ({unchecked} of {len(found)} properties)"] * bool(unchecked)
        typer.echo(f"{plugin}: {', '.join(verdicts) or 'keeps its contract'}")
    if broken or unchecked:
        raise typer.Exit(1)
