"""The commands `jigsaw tasks` and `jigsaw rewards`: list, show and check built-in and third-party ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from jigsaw.cli.arguments import key_values
from jigsaw.cli.groups import command_group
from jigsaw.cli.printing import AsJson, print_listing, print_table

Name = Annotated[str, typer.Argument(help="A name, package.module:name or path/to/file.py:name.")]
Options = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Options of the plug-in.")]


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

        rows = [describe_task(name) for name in task_names()]
        typer.echo(json.dumps(rows, indent=2)) if as_json else print_listing(tasks_table(rows))


@tasks.command("show", epilog="Example: jigsaw tasks show image")
def show_task(name: Name, as_json: AsJson = False) -> None:
    """Show the configuration keys of a task."""
    from jigsaw.listings import task_table
    from jigsaw.tasks import describe_task

    task = describe_task(name)
    typer.echo(json.dumps(task, indent=2)) if as_json else print_listing(task_table(task))


@tasks.command("check", epilog="Example: jigsaw tasks check my_tasks.py:Mine grid=2x2")
def check_task(
    name: Name,
    options: Options = None,
    source: Annotated[
        Path | None, typer.Option(help="Folder of sources for the task.  [default: generated sources]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that a task fulfils its contract.

    The exit code is 1 if a property of the contract is not fulfilled or could not be checked.
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

        infos = list_rewards()
        if as_json:
            typer.echo(json.dumps([asdict(info) for info in infos], indent=2))
        else:
            print_listing(rewards_table(infos))


@rewards.command("show", epilog="Example: jigsaw rewards show visual_jigsaw")
def show_reward(name: Name, as_json: AsJson = False) -> None:
    """Show a reward and its options."""
    from dataclasses import asdict

    from jigsaw.listings import reward_table
    from jigsaw.rewards import describe_reward

    info = describe_reward(name)
    typer.echo(json.dumps(asdict(info), indent=2)) if as_json else print_listing(reward_table(info))


@rewards.command("check", epilog="Example: jigsaw rewards check my_rewards.py:brevity limit=50")
def check_reward(
    name: Name,
    options: Options = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A column of the rows that are scored; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that a reward fulfils its contract.

    The exit code is 1 if a property of the contract is not fulfilled or could not be checked.
    """
    import yaml

    from jigsaw.testing import check_reward

    typed, columns = (
        {key: yaml.safe_load(value) for key, value in key_values(items or []).items()} for items in (options, column)
    )
    _print_findings(name, check_reward(name, columns=columns, **typed), as_json)


def _print_findings(plugin: str, findings: list[Any], as_json: bool) -> None:
    """Print one line per property, and exit with 1 if one is broken or was not checked."""
    from jigsaw.testing import findings_table

    broken = sum(finding.ok is False for finding in findings)
    unchecked = sum(not finding.checked for finding in findings)
    if as_json:
        rows = [
            {"property": finding.name, "holds": finding.ok, "checked": finding.checked, "detail": finding.detail}
            for finding in findings
        ]
        ok = not (broken or unchecked)
        typer.echo(json.dumps({"name": plugin, "ok": ok, "findings": rows}, indent=2))
    else:
        print_table(findings_table(findings))
        verdicts = [f"{broken} of {len(findings)} properties do not hold"] * bool(broken)
        verdicts += [f"not checked ({unchecked} of {len(findings)} properties)"] * bool(unchecked)
        typer.echo(f"{plugin}: {', '.join(verdicts) or 'keeps its contract'}")
    if broken or unchecked:
        raise typer.Exit(1)
