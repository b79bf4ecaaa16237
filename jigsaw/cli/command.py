"""The `jigsaw` command: its entry point, and the subcommands `launch` and `doctor`.

The other subcommands are in the other files of this folder, by subject. Each turns its arguments into one call of the
framework and prints the result as text or, with `--json`, as JSON. Exit codes: 0 success, 1 error, 2 wrong usage. An
error is one line; `--debug` adds the traceback.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, NoReturn

import typer

from jigsaw import environment
from jigsaw.cli import benchmarks, data, evaluation, neo, plugins, recipes
from jigsaw.cli.arguments import wrong_usage
from jigsaw.cli.printing import AsJson, print_table
from jigsaw.errors import JigsawError, StoppedError, first_line, printable
from jigsaw.failures import DEBUG, expected_error, hide_library_warnings

INTERRUPTED = 130
"""The exit code that typer returns for Ctrl-C, where a command does not handle it."""

app = typer.Typer(
    name="jigsaw",
    help="Post-train vision-language models on visual jigsaw puzzles: build, train, evaluate, report.",
    epilog="Add --debug to any command for a traceback. First steps: jigsaw launch quickstart",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich's help costs more than everything else that --help does
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def print_version(requested: bool) -> None:
    """Print the version and exit, if `--version` was given."""
    if requested:
        from importlib.metadata import version

        typer.echo(f"visual-jigsaw {version('visual-jigsaw')}")
        raise typer.Exit


@app.callback()
def jigsaw(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the command itself."""


app.add_typer(data.app)
app.add_typer(evaluation.app)
app.add_typer(benchmarks.app)
app.add_typer(recipes.recipes, name="recipes")
app.add_typer(plugins.tasks, name="tasks")
app.add_typer(plugins.rewards, name="rewards")
app.add_typer(neo.app, name="neo")


def main() -> NoReturn:
    """Run the command line; an expected error is printed in one line."""
    environment.start_in_utf8()
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
        os.environ[DEBUG] = "1"  # for the processes that train
    try:
        environment.require_working_directory()
        environment.prepare()
        _describe(app)
        _quiet_libraries(debug)
        code = app(prog_name="jigsaw", standalone_mode=False)
    except typer.TyperException as error:
        print(printable(wrong_usage(error)), file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        line = expected_error(error)
        if line is None:
            name = type(error).__name__
            line = f"unexpected {name}: {first_line(error)} (this is a bug: run again with --debug and report it)"
        print(f"jigsaw: {printable(line)}", file=sys.stderr)  # noqa: T201  # the one place where errors are printed
        if isinstance(error, StoppedError) and error.command:
            print(f"Continue with: {error.command}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code if isinstance(error, JigsawError) else 1)
    if code == INTERRUPTED:
        print("jigsaw: interrupted", file=sys.stderr)  # noqa: T201
    sys.exit(code or 0)


@app.command(epilog="Example: jigsaw launch quickstart data.photos=/home/me/photos")
def launch(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Recipe keys with new values.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished run.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the run would do and what is missing; run nothing.")
    ] = False,
    tiny: Annotated[
        bool, typer.Option("--tiny", help="Run the recipe with a tiny model and sample data, without a GPU.")
    ] = False,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Print a batch file for sbatch; run and write nothing.")
    ] = False,
    nodes: Annotated[
        int | None, typer.Option(min=1, help="Number of machines; the same as distributed.nodes=N.")
    ] = None,
    node_rank: Annotated[int, typer.Option(min=0, help="Number of this machine, from 0.")] = 0,
    rendezvous: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Address of the first machine, for runs on several.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a recipe: data, training, evaluation, report.

    Ctrl-C saves a checkpoint after the current step and prints the command that continues the run; a second Ctrl-C
    exits at once. The exit code is then 130; it is 143 after SIGTERM and 129 after the terminal was closed, which also
    save. With --json, progress goes to stderr, and stdout gets the run folder and its held-out figures.
    """
    from jigsaw.config.fresh import FreshFolders
    from jigsaw.config.loading import load_recipe
    from jigsaw.launch.torchrun import Node

    for name, other in (("--dry-run", dry_run), ("--resume", resume), ("--json", as_json)):
        if slurm and other:
            raise typer.BadParameter(
                f"cannot be combined with {name}: it only prints a batch file, whose job resumes by itself",
                param_hint="--slurm",
            )
    if dry_run and as_json:
        raise typer.BadParameter("cannot be combined with --json: it prints YAML", param_hint="--dry-run")
    changes = [*(overrides or []), *([] if nodes is None else [f"distributed.nodes={nodes}"])]
    node = Node(node_rank, rendezvous)
    with FreshFolders(resume=resume, create=not (resume or slurm or dry_run)) as fresh:
        loaded = load_recipe(recipe, changes, tiny=tiny, fresh=fresh)
        if slurm:
            from jigsaw.launch.slurm import batch_file

            typer.echo(batch_file(loaded, recipe, changes, tiny=tiny), nl=False)
            return
        if dry_run:
            from jigsaw.launch.checks import checklist
            from jigsaw.launch.checks import dry_run as show

            checks = checklist(loaded, node, resume=resume)
            typer.echo(show(loaded, node, checks), nl=False)
            if any(check.status == "missing" for check in checks):
                raise JigsawError("this run cannot start here; the list above names what is missing")
            return
        if loaded.output in fresh.folders.values():
            node.require_same_folder(loaded.distributed, resume)
        from rich.console import Console

        from jigsaw.console import show_result
        from jigsaw.devices import CoreTimes, busy_line
        from jigsaw.run import run
        from jigsaw.run_folder import RunFolder

        console, since = Console(stderr=as_json), CoreTimes.now()
        if (line := busy_line(since)) is not None:
            console.print(line, highlight=False)
        try:
            folder = RunFolder(run(loaded, console, resume=resume, node=node))
        except StoppedError as stopped:
            from jigsaw.launch.resuming import resume_command

            place = [] if rendezvous is None else ["--node-rank", str(node_rank), "--rendezvous", rendezvous]
            options = [*(["--tiny"] if tiny else []), *place, *(["--json"] if as_json else [])]
            stopped.command = resume_command(recipe, changes, options, loaded.output, tiny=tiny)
            raise
    if as_json:
        figures = json.loads(folder.evaluation.read_text(encoding="utf-8")) if folder.evaluation.is_file() else {}
        typer.echo(json.dumps({"run": str(folder), "report": str(folder.report), **figures}, indent=2))
    elif node.rank == 0:
        show_result(console, loaded, folder.path)


@app.command(epilog="Example: jigsaw doctor")
def doctor(as_json: AsJson = False) -> None:
    """Check this machine and list what is missing.

    It checks versions, devices, engines, the packages of samples, memory and disk. The exit code is 1 if a run would
    fail.
    """
    from jigsaw.doctor import examine, findings_table

    findings = examine()
    if as_json:
        typer.echo(json.dumps([finding.to_json() for finding in findings], indent=2))
    else:
        print_table(findings_table(findings))
    if any(finding.broken for finding in findings):
        raise typer.Exit(1)


def _describe(app: typer.Typer) -> None:
    """Set the descriptions of the commands under `python -OO`, which drops the docstrings that typer reads."""
    if sys.flags.optimize < 2:
        return
    from jigsaw.docstrings import docstring_of

    for group in app.registered_groups:
        if group.typer_instance is not None:
            _describe(group.typer_instance)
    for command in app.registered_commands:
        command.help = command.help or docstring_of(command.callback)


def _quiet_libraries(debug: bool) -> None:
    """Silence the warnings and progress bars of libraries, unless `--debug` is given."""
    if debug:
        return
    hide_library_warnings()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
