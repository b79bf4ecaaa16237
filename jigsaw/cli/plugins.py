"""Verbs about tasks and rewards, ours and anyone's: what there is, and whether it keeps its contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from jigsaw.cli.arguments import key_values
from jigsaw.cli.printing import AsJson, print_table

app = typer.Typer()

Rest = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME [KEY=VALUE]", help="After check: the plug-in and its options."),
]


@app.command(epilog="Example: jigsaw tasks check my_tasks.py:Mine grid=2x2")
def tasks(
    name: Annotated[str | None, typer.Argument(help="A task or plug-in; or the word check.")] = None,
    rest: Rest = None,
    source: Annotated[
        Path | None, typer.Option(help="With check: sources that suit the task.  [default: made-up ones]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the tasks, show one, or check a plug-in.

    The exit code of a check is 1 if a property of the contract does not hold, or could not be checked.
    """
    from jigsaw.listings import task_table, tasks_table
    from jigsaw.tasks import describe_task, task_names

    plugin, options = _checked("tasks", name, rest)
    if plugin is not None:
        from jigsaw.testing import check_task

        _print_findings(plugin, check_task(plugin, source=source, **options), as_json)
    elif name is None:
        found = [describe_task(known) for known in task_names()]
        typer.echo(json.dumps(found, indent=2)) if as_json else print_table(tasks_table(found))
    else:
        one = describe_task(name)
        typer.echo(json.dumps(one, indent=2)) if as_json else print_table(task_table(one))


@app.command(epilog="Example: jigsaw rewards check my_rewards.py:brevity limit=50")
def rewards(
    name: Annotated[str | None, typer.Argument(help="A reward or plug-in; or the word check.")] = None,
    rest: Rest = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="With check: a column of your rows; may be given again."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the rewards, show one, or check a plug-in.

    The exit code of a check is 1 if a property of the contract does not hold, or could not be checked.
    """
    from dataclasses import asdict

    from jigsaw.listings import reward_table, rewards_table
    from jigsaw.rewards import describe_reward, list_rewards

    plugin, options = _checked("rewards", name, rest)
    if plugin is not None:
        import yaml

        from jigsaw.testing import check_reward

        typed = {key: yaml.safe_load(value) for key, value in options.items()}
        columns = {key: yaml.safe_load(value) for key, value in key_values(column or []).items()}
        _print_findings(plugin, check_reward(plugin, columns=columns, **typed), as_json)
    elif name is None:
        found = list_rewards()
        table = [asdict(info) for info in found]
        typer.echo(json.dumps(table, indent=2)) if as_json else print_table(rewards_table(found))
    else:
        info = describe_reward(name)
        typer.echo(json.dumps(asdict(info), indent=2)) if as_json else print_table(reward_table(info))


def _checked(verb: str, name: str | None, rest: list[str] | None) -> tuple[str | None, dict[str, str]]:
    """The plug-in to check and its options; no plug-in where none is to be checked."""
    if name != "check" and not rest:
        return None, {}
    if name != "check" or not rest or "=" in rest[0].rpartition(":")[2]:
        raise typer.BadParameter(f"write: jigsaw {verb} check NAME [KEY=VALUE ...]", param_hint="NAME")
    return rest[0], key_values(rest[1:])


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
