"""The `jigsaw` command: verbs and their options, no logic.

Each verb turns its arguments into one call of the framework and prints what came back, as text or with `--json`. Heavy
imports happen inside the verbs. Exit code 0 is success, 1 an error told in one line, 2 wrong usage; a traceback is
shown with `--debug` alone.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from jigsaw.errors import JigsawError

app = typer.Typer(
    name="jigsaw",
    help="Post-train vision-language models on visual jigsaw puzzles: build, train, evaluate, report.",
    epilog="Add --debug to any verb for a traceback. First steps: jigsaw launch quickstart",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich's help costs more than everything else that --help does
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


def main() -> NoReturn:
    """Run the command line; every foreseeable failure ends in one line."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        _require_own_packages()
        _quiet_libraries(debug)
        code = app(prog_name="jigsaw", standalone_mode=False)
    except typer.TyperException as error:
        print(_wrong_usage(error), file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        line = _foreseen(error)
        if line is None:
            name = type(error).__name__
            line = f"unexpected {name}: {_first_line(error)} (this is a bug: run again with --debug and report it)"
        print(f"jigsaw: {line}", file=sys.stderr)  # noqa: T201  # the one place where errors are told
        sys.exit(1)
    sys.exit(code or 0)


@app.command(epilog="Example: jigsaw samples data/samples")
def samples(
    folder: Annotated[Path, typer.Argument(help="Folder to write; made if need be.")], as_json: AsJson = False
) -> None:
    """Write real photos, clips and an RGB-D scene, with licences.

    They come out of installed packages; nothing is downloaded.
    """
    from jigsaw.data.samples import export_samples

    summary = export_samples(folder)
    _print(summary.to_json(), as_json)


@app.command(epilog="Example: jigsaw build image photos/ data/photos-3x3 grid=3x3 --per-source 4")
def build(
    task: Annotated[str, typer.Argument(help="image, or a plug-in: package.module:name or path/to/file.py:name.")],
    source: Annotated[Path, typer.Argument(help="Folder of sources.")],
    out: Annotated[Path, typer.Argument(help="Folder of the puzzle set.")],
    config: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="The task's configuration.")
    ] = None,
    per_source: Annotated[int, typer.Option(help="Puzzles from each source.")] = 1,
    limit: Annotated[int | None, typer.Option(help="Use only so many sources.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed, other puzzles.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Processes.  [default: one per core]")] = None,
    parts: Annotated[int | None, typer.Option(help="Parquet files.  [default: by the number of sources]")] = None,
    shard: Annotated[str, typer.Option(help="I/N: the share of machine I (from 0) of N.")] = "0/1",
    split: Annotated[str | None, typer.Option(help="train or heldout: one side of the source's split.")] = None,
    heldout: Annotated[float, typer.Option(help="Share held out, for --split.")] = 0.2,
    materialize: Annotated[bool, typer.Option("--materialize", help="Store the rendered media too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Build a puzzle set from a folder of sources.

    Killed or interrupted, the same command finishes it.
    """
    from jigsaw.data import build_puzzles

    if split not in (None, "train", "heldout"):
        raise typer.BadParameter(f"{split!r} is neither train nor heldout", param_hint="--split")
    summary = build_puzzles(
        task,
        source,
        out,
        config=_pairs(config or []),
        per_source=per_source,
        limit=limit,
        seed=seed,
        workers=workers,
        parts=parts,
        shard=_shard(shard),
        split=split,  # type: ignore[arg-type]  # checked above
        heldout=heldout,
        materialize=materialize,
    )
    _print(summary.to_json(), as_json)


@app.command(epilog="Example: jigsaw launch quickstart data.photos=/home/me/photos")
def launch(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of one that ships.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides of recipe keys.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and touch nothing.")] = False,
) -> None:
    """Carry out a recipe: data, training, evaluation, report."""
    from jigsaw.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [], resume=resume)
    if dry_run:
        from jigsaw.launch import dry_run as show

        typer.echo(show(loaded), nl=False)
        return
    from rich.console import Console

    from jigsaw.launch import launch as carry_out

    folder = carry_out(loaded, Console(), resume=resume)
    typer.echo(f"{folder / 'report.html'}")


@app.command("eval", epilog="Example: jigsaw eval runs/quickstart/model data/image-heldout --out evals/quickstart")
def evaluate(
    model: Annotated[str, typer.Argument(help="A checkpoint folder or a hub id.")],
    data: Annotated[Path, typer.Argument(help="A puzzle set.")],
    out: Annotated[Path | None, typer.Option(help="Folder for evaluation.json and predictions.jsonl.")] = None,
    reward: Annotated[list[str] | None, typer.Option(help="Reward that is reported; may be given again.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts generated together.")] = 16,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Completion limit.")] = 1024,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many puzzles, spread over the set.")] = None,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    as_json: AsJson = False,
) -> None:
    """Solve a puzzle set and say how well, beside chance.

    Decoding is greedy; intervals are bootstrapped over sources.
    """
    from jigsaw.evaluation.run import evaluate_checkpoint, figures_table

    figures = evaluate_checkpoint(
        model,
        data,
        out=out,
        rewards=reward or ["visual_jigsaw"],
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        limit=limit,
        dtype=dtype,
    )
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
    else:
        _show(figures_table({"model": figures}))


@app.command(epilog="Example: jigsaw report runs/quickstart")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    out: Annotated[Path | None, typer.Option(help="The page.  [default: report.html in the first run]")] = None,
) -> None:
    """Write one self-contained HTML page about runs."""
    from jigsaw.evaluation.report import write_report

    page = out or runs[0] / "report.html"
    write_report(runs, page)
    typer.echo(f"{page}")


@app.command(epilog="Example: jigsaw doctor")
def doctor(as_json: AsJson = False) -> None:
    """Look at this machine and say what is missing.

    Versions, devices, engines, sample packages, memory and disk.
    """
    from jigsaw.doctor import examine, findings_table

    findings = examine()
    if as_json:
        typer.echo(json.dumps([finding.to_json() for finding in findings], indent=2))
    else:
        _show(findings_table(findings))
    if any(finding.broken for finding in findings):
        raise typer.Exit(1)


def _pairs(items: list[str]) -> dict[str, str]:
    """`["grid=2x2"]` as a dict."""
    for item in items:
        if "=" not in item:
            raise typer.BadParameter(f"{item!r} is not of the form KEY=VALUE", param_hint="KEY=VALUE")
    return dict(item.split("=", 1) for item in items)


def _shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise typer.BadParameter(f"{text!r} is not of the form I/N", param_hint="--shard")
    return int(number), int(count)


def _print(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
    else:
        for key, value in answer.items():
            typer.echo(f"{key}: {value if not isinstance(value, dict) else json.dumps(value)}")


def _show(table: Any) -> None:
    from rich.console import Console

    Console().print(table)


def _require_own_packages() -> None:
    """`tasks` and `rewards` are common names: one of another project on the path would be taken for ours."""
    from importlib.util import find_spec

    ours = Path(__file__).resolve().parent.parent
    for name in ("tasks", "rewards"):
        spec = find_spec(name)
        found = None if spec is None or spec.origin is None else Path(spec.origin).resolve().parent
        if found != ours / name:
            raise JigsawError(
                f"the package {name} that Python finds is {found}, not ours in {ours / name}: "
                f"run from another folder, or take it off PYTHONPATH"
            )


def _quiet_libraries(debug: bool) -> None:
    """Libraries speak up only with `--debug`; what a user must know we tell ourselves."""
    if debug:
        return
    import warnings

    warnings.filterwarnings("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")


def _wrong_usage(error: typer.TyperException) -> str:
    """The line for arguments that no verb takes; for no arguments at all, the help."""
    message = error.format_message()
    if len(sys.argv) == 1:
        return message
    if close := getattr(error, "possibilities", None):
        message = f"{error.message}: did you mean {close[0]}?"
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "jigsaw"
    return f"{command}: {message[0].lower()}{message[1:].rstrip('.')} (see {command} --help)"


def _foreseen(error: Exception) -> str | None:
    """The line for an error that is no bug of ours; None for one that may be."""
    if isinstance(error, JigsawError):  # before the imports: it may say that they are not ours
        return _first_line(error)
    from rewards import RewardError
    from tasks import TaskError

    if isinstance(error, RewardError | TaskError):
        return _first_line(error)
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    # safetensors, arrow and torch tell of a full disk in words alone
    if (isinstance(error, OSError) and error.errno in full) or any(f"os error {code}" in str(error) for code in full):
        place = f" while writing {error.filename}" if isinstance(error, OSError) and error.filename else ""
        return f"the disk is full{place}: make room and run the same command again (launch: with --resume)"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {(error.strerror or 'cannot be used').lower()}"
    return None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
