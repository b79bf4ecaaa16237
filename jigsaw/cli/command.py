"""The `jigsaw` command: subcommands and their options, without logic.

Other commands are in `jigsaw.cli`, by subject. Each command turns its arguments into one call of the
framework and prints what came back, as text or with `--json`. Heavy imports happen inside the commands. Exit code 0 is
success, 1 an error of one line, 2 wrong usage; a traceback is shown with `--debug` alone.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, NoReturn

import typer

from jigsaw import environment
from jigsaw.cli import benchmarks, data, evaluation, neo, plugins, recipes
from jigsaw.cli.printing import AsJson, print_table
from jigsaw.errors import JigsawError, StoppedError, first_line, printable
from jigsaw.failures import DEBUG, expected_error, hide_library_warnings, wrong_usage

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


def print_version(asked: bool) -> None:
    """Print the version and end, if asked to."""
    if asked:
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
    """Run the command line; every foreseeable failure ends in one line."""
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
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of one that ships.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Overrides of recipe keys.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished run.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done and what is missing.")] = False,
    tiny: Annotated[bool, typer.Option("--tiny", help="The same run in small: tiny model, samples, no GPU.")] = False,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Print a batch file for sbatch; nothing is run or written.")
    ] = False,
    nodes: Annotated[int | None, typer.Option(min=1, help="Number of machines, as distributed.nodes.")] = None,
    node_rank: Annotated[int, typer.Option(min=0, help="Which of the machines this is, from 0.")] = 0,
    rendezvous: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where the first machine listens.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a recipe: data, training, evaluation, report.

    Ctrl-C saves after the current step and prints the command that continues; a second Ctrl-C ends at once. The exit
    code is then 130. SIGTERM and a closed terminal save too, with 143 and 129. With --json progress goes to stderr, and
    stdout gets the run's folder and its held-out figures.
    """
    from jigsaw.config.fresh import FreshFolders
    from jigsaw.config.loading import load_recipe
    from jigsaw.launch.torchrun import Node

    for name, other in (("--dry-run", dry_run), ("--resume", resume), ("--json", as_json)):
        if slurm and other:
            raise typer.BadParameter(f"not with {name}: the file is printed, and the job resumes", param_hint="--slurm")
    if dry_run and as_json:
        raise typer.BadParameter("not with --json: what would be done is printed as YAML", param_hint="--dry-run")
    given = [*(overrides or []), *([] if nodes is None else [f"distributed.nodes={nodes}"])]
    node = Node(node_rank, rendezvous)
    with FreshFolders(resume=resume, create=not (resume or slurm or dry_run)) as fresh:
        loaded = load_recipe(recipe, given, tiny=tiny, fresh=fresh)
        if slurm:
            from jigsaw.launch.slurm import batch_file

            typer.echo(batch_file(loaded, recipe, given, tiny=tiny), nl=False)
            return
        if dry_run:
            from jigsaw.launch.checks import checklist
            from jigsaw.launch.checks import dry_run as show

            checks = checklist(loaded, node, resume=resume)
            typer.echo(show(loaded, node, checks), nl=False)
            if any(check.status == "missing" for check in checks):
                raise JigsawError("this run cannot start here; the end of the list above says what is missing")
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
            stopped.command = resume_command(recipe, given, options, loaded.output, tiny=tiny)
            raise
    if as_json:
        found = json.loads(folder.evaluation.read_text(encoding="utf-8")) if folder.evaluation.is_file() else {}
        typer.echo(json.dumps({"run": str(folder), "report": str(folder.report), **found}, indent=2))
    elif node.rank == 0:
        show_result(console, loaded, folder.path)


@app.command(epilog="Example: jigsaw doctor")
def doctor(as_json: AsJson = False) -> None:
    """Check this machine and list what is missing.

    Versions, devices, engines, sample packages, memory and disk.
    """
    from jigsaw.doctor import examine, findings_table

    findings = examine()
    if as_json:
        typer.echo(json.dumps([finding.to_json() for finding in findings], indent=2))
    else:
        print_table(findings_table(findings))
    if any(finding.broken for finding in findings):
        raise typer.Exit(1)


def _describe(verbs: typer.Typer) -> None:
    """Give the commands their descriptions where Python has dropped docstrings, from which typer takes them."""
    if sys.flags.optimize < 2:
        return
    from jigsaw.docstrings import docstring_of

    for group in verbs.registered_groups:
        if group.typer_instance is not None:
            _describe(group.typer_instance)
    for verb in verbs.registered_commands:
        verb.help = verb.help or docstring_of(verb.callback)


def _quiet_libraries(debug: bool) -> None:
    """Libraries speak up only with `--debug`; what a user must know we tell ourselves."""
    if debug:
        return
    hide_library_warnings()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
