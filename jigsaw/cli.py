"""The `jigsaw` command: verbs and their options, no logic.

Each verb turns its arguments into one call of the framework and prints what came back, as text or with `--json`. Heavy
imports happen inside the verbs. Exit code 0 is success, 1 an error told in one line, 2 wrong usage; a traceback is
shown with `--debug` alone.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from jigsaw.errors import JigsawError
from jigsaw.failures import first_line, foreseen, wrong_usage
from jigsaw.models.neo_verbs import app as neo_verbs

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

app.add_typer(neo_verbs, name="neo")

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
        print(wrong_usage(error), file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        line = foreseen(error)
        if line is None:
            name = type(error).__name__
            line = f"unexpected {name}: {first_line(error)} (this is a bug: run again with --debug and report it)"
        print(f"jigsaw: {line}", file=sys.stderr)  # noqa: T201  # the one place where errors are told
        sys.exit(error.exit_code if isinstance(error, JigsawError) else 1)
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done and touch nothing.")] = False,
    twin: Annotated[bool, typer.Option("--twin", help="The same run in small: tiny model, samples, no GPU.")] = False,
    slurm: Annotated[bool, typer.Option("--slurm", help="Print a batch file for sbatch and touch nothing.")] = False,
    nodes: Annotated[int | None, typer.Option(min=1, help="Machines; as distributed.nodes.")] = None,
    node_rank: Annotated[int, typer.Option(min=0, help="Which of them this is, from 0.")] = 0,
    rendezvous: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Of the first machine.")] = None,
) -> None:
    """Carry out a recipe: data, training, evaluation, report.

    SIGTERM saves and exits with code 143; --resume goes on.
    """
    from jigsaw.distributed import Node
    from jigsaw.recipe import load_recipe

    given = [*(overrides or []), *([] if nodes is None else [f"distributed.nodes={nodes}"])]
    loaded = load_recipe(recipe, given, resume=resume, twin=twin)
    node = Node(node_rank, rendezvous)
    if slurm:
        from jigsaw.slurm import batch_file

        typer.echo(batch_file(loaded, recipe, given), nl=False)
        return
    if dry_run:
        from jigsaw.launch import dry_run as show

        typer.echo(show(loaded, node), nl=False)
        return
    from rich.console import Console

    from jigsaw.launch import launch as carry_out

    folder = carry_out(loaded, Console(), resume=resume, node=node)
    typer.echo(f"{folder / 'report.html'}")


@app.command("eval", epilog="Example: jigsaw eval runs/quickstart/model data/image-heldout --out evals/quickstart")
def evaluate(
    model: Annotated[str, typer.Argument(help="A checkpoint folder or a hub id.")],
    data: Annotated[Path | None, typer.Argument(help="A puzzle set; none with --suite.")] = None,
    suite: Annotated[
        str | None, typer.Option(help="Benchmarks instead: image, video, depth, neo or realunify.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="With --suite: where the benchmarks lie.")] = None,
    frames: Annotated[
        list[int] | None, typer.Option(help="With --suite: most frames of a clip; again for more.")
    ] = None,
    boxes: Annotated[str | None, typer.Option(help="With --suite: pixels or thousandths, of coordinates.")] = None,
    editor: Annotated[str | None, typer.Option(help="With realunify: plug-in that edits pictures.")] = None,
    generator: Annotated[str | None, typer.Option(help="With realunify: plug-in that draws pictures.")] = None,
    judge: Annotated[str | None, typer.Option(help="With realunify: an OpenAI-compatible address, with /v1.")] = None,
    judge_model: Annotated[str, typer.Option(help="With realunify: what the judge's server calls it.")] = "judge",
    grid: Annotated[str, typer.Option(help="With realunify: of Mental Reconstruction's tiles.")] = "3x3",
    out: Annotated[Path | None, typer.Option(help="Folder of the evaluation; given again, goes on there.")] = None,
    engine: Annotated[str, typer.Option(help="transformers or vllm.")] = "transformers",
    samples: Annotated[int, typer.Option(min=1, help="Completions of each puzzle: 1 is greedy, more are drawn.")] = 1,
    temperature: Annotated[float, typer.Option(help="Of drawn completions.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of drawn completions.")] = 0,
    against: Annotated[Path | None, typer.Option(help="Another evaluation's folder, to compare with.")] = None,
    wording: Annotated[int, typer.Option(min=0, help="Ask in other words: 1 or 2.")] = 0,
    reward: Annotated[list[str] | None, typer.Option(help="Reward that is reported; may be given again.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts generated together.")] = 16,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Completion limit.")] = 1024,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many puzzles, spread over the set.")] = None,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    source_root: Annotated[Path | None, typer.Option(help="Where the sources are now, if they moved.")] = None,
    as_json: AsJson = False,
) -> None:
    """Solve a puzzle set and say how well, beside chance.

    Intervals know which puzzles share a source. `jigsaw report` makes a page of the folder.
    """
    if (data is None) == (suite is None):
        raise typer.BadParameter("name a puzzle set, or a suite with --suite", param_hint="DATA")
    if suite is not None:
        if data_root is None:
            raise typer.BadParameter("name the folder of the benchmarks", param_hint="--data-root")
        shared: dict[str, Any] = {"engine": engine, "dtype": dtype, "batch_size": batch_size, "limit": limit}
        shared |= {"max_new_tokens": max_new_tokens, "out": out or Path("evals") / f"{suite}-{Path(model).name}"}
        shared["say"] = lambda line: typer.echo(line, err=True)
        if suite == "realunify":
            from jigsaw.evaluation.benchmarks.realunify_run import evaluate_realunify, realunify_text

            tools: dict[str, Any] = {"editor": editor, "generator": generator, "grid": _grid(grid)}
            tools |= {"judge": judge, "judge_model": judge_model}
            found = evaluate_realunify(model, data_root, **tools, **shared)
            typer.echo(json.dumps(found, indent=2) if as_json else realunify_text(found))
            return
        from jigsaw.evaluation.benchmarks.suite import evaluate_suite, suite_text

        found = evaluate_suite(model, suite, data_root, frames=frames or (), boxes=boxes, against=against, **shared)
        typer.echo(json.dumps(found, indent=2) if as_json else suite_text(found))
        return
    from jigsaw.evaluation.run import evaluate_checkpoint
    from jigsaw.evaluation.tables import evaluation_tables

    assert data is not None
    figures = evaluate_checkpoint(
        model,
        data,
        out=out,
        rewards=reward or ["visual_jigsaw"],
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        limit=limit,
        dtype=dtype,
        engine=engine,
        samples=samples,
        temperature=temperature,
        seed=seed,
        wording=wording,
        against=against,
        source_root=source_root,
    )
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
    else:
        _show(evaluation_tables(figures))


@app.command(epilog="Example: jigsaw report runs/quickstart runs/quickstart-2 --table latex")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, evaluations or suites.")],
    out: Annotated[Path | None, typer.Option(help="The page.  [default: report.html in the first run]")] = None,
    table: Annotated[str | None, typer.Option(help="Print the table instead: markdown, latex, csv or json.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for the plots as SVG files.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write one HTML page about runs, or print their table.

    Below the table stand the file, the fields and the command behind every figure.
    """
    from jigsaw.evaluation.paper import printed
    from jigsaw.evaluation.report import write_report
    from jigsaw.evaluation.results import paper_tables, write_plots

    if as_json or table:
        typer.echo(printed(paper_tables(runs), "json" if as_json else str(table)), nl=False)
    if plots is not None:
        for path in write_plots(runs, plots):
            typer.echo(f"{path}", err=as_json or table is not None)
    if not (as_json or table or plots):
        page = out or runs[0] / "report.html"
        write_report(runs, page)
        typer.echo(f"{page}")


@app.command(epilog="Example: jigsaw generalize runs/quickstart --sizes 2x2 --sizes 3x3")
def generalize(
    run: Annotated[Path, typer.Argument(help="A run folder with its model.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write.  [default: generalization in the run]")] = None,
    sizes: Annotated[list[str] | None, typer.Option(help="Size to try, as 3x3 or 6; may be given again.")] = None,
    puzzles: Annotated[int, typer.Option(min=1, help="Most puzzles per condition.")] = 256,
    engine: Annotated[str, typer.Option(help="transformers or vllm.")] = "transformers",
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts generated together.")] = 16,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Completion limit.")] = 1024,
    as_json: AsJson = False,
) -> None:
    """Try a run's model on unseen sources, sizes and words."""
    from jigsaw.evaluation.generalization import generalization_table
    from jigsaw.evaluation.generalization import generalize as carry_out
    from jigsaw.evaluation.paper import printed

    target = out or run / "generalization"
    options: dict[str, Any] = {"engine": engine, "batch_size": batch_size, "max_new_tokens": max_new_tokens}
    found = carry_out(run, out=target, sizes=sizes or (), puzzles=puzzles, **options)
    typer.echo(json.dumps(found, indent=2) if as_json else printed([generalization_table(found)], "markdown"))


@app.command("import", epilog="Example: jigsaw import visual-jigsaw their-parquet/ data/theirs --only image")
def import_set(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="visual-jigsaw: the files of the paper's authors.")],
    path: Annotated[Path, typer.Argument(help="A Parquet file, or a folder of them.")],
    out: Annotated[Path, typer.Argument(help="Folder of the puzzle set.")],
    media_root: Annotated[Path | None, typer.Option(help="Folder of the media.  [default: that of the files]")] = None,
    only: Annotated[str | None, typer.Option(help="image, video or depth, where the files mix them.")] = None,
    seed: Annotated[int, typer.Option(help="Of the shown orders.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Processes.  [default: one per core]")] = None,
    as_json: AsJson = False,
) -> None:
    """Read other people's puzzle sets into one of ours."""
    from jigsaw.data import import_puzzles

    summary = import_puzzles(form, path, out, media_root=media_root, only=only, seed=seed, workers=workers)
    _print(summary.to_json(), as_json)


@app.command(epilog="Example: jigsaw preview data/photos-3x3 --count 12")
def preview(
    data: Annotated[list[Path], typer.Argument(help="Puzzle sets.")],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("preview.html"),
    count: Annotated[int, typer.Option(min=1, help="Puzzles of each set.")] = 24,
    source_root: Annotated[Path | None, typer.Option(help="Where the sources are now, if they moved.")] = None,
    task: Annotated[str | None, typer.Option(help="The plug-in task that built the set.")] = None,
) -> None:
    """Show puzzles, solved and explained, as one offline HTML page."""
    from jigsaw.data import preview_puzzles

    typer.echo(f"{preview_puzzles(data, out, count=count, source_root=source_root, task=task)}")


@app.command(epilog="Example: jigsaw check data/photos-3x3")
def check(
    data: Annotated[Path, typer.Argument(help="A puzzle set.")],
    source_root: Annotated[Path | None, typer.Option(help="Where the sources are now, if they moved.")] = None,
    task: Annotated[str | None, typer.Option(help="The plug-in task that built the set.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes.  [default: one per core]")] = None,
    as_json: AsJson = False,
) -> None:
    """Check that every row renders and every answer holds.

    Rows that do not are named, and the exit code is 1.
    """
    from jigsaw.data import check_puzzles

    found = check_puzzles(data, source_root, task=task, workers=workers)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        for fault in found.faults:
            typer.echo(f"{fault}")
        typer.echo(f"{found.rows} rows of {found.sources} sources, {found.copies} copies, {found.num_faults} faults")
    if not found.ok:
        raise typer.Exit(1)


@app.command(epilog="Example: jigsaw audit data/photos-3x3")
def audit(
    data: Annotated[Path, typer.Argument(help="A puzzle set.")],
    limit: Annotated[int, typer.Option(min=1, help="At most so many puzzles, spread over the set.")] = 500,
    source_root: Annotated[Path | None, typer.Option(help="Where the sources are now, if they moved.")] = None,
    task: Annotated[str | None, typer.Option(help="The plug-in task that built the set.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say how far shortcuts get, and which option closes them.

    Constant answers, borders, brightness, positions, compression: what they reach, a model may reach by them.
    """
    from jigsaw.evaluation.audit import audit_puzzles, audit_tables

    found = audit_puzzles(data, limit=limit, source_root=source_root, task=task)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _show(audit_tables(found))


@app.command(epilog="Example: jigsaw score data/photos-3x3 predictions.jsonl --reward visual_jigsaw")
def score(
    data: Annotated[Path, typer.Argument(help="A puzzle set.")],
    predictions: Annotated[Path, typer.Argument(help="JSON lines, each with id and text.")],
    reward: Annotated[list[str] | None, typer.Option(help="Reward to report; may be given again.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score completions that were made elsewhere.

    Means are per task and number of pieces; missing, duplicate and unknown ids are reported and left out of them.
    """
    from jigsaw.evaluation.scoring import score_predictions, score_table

    scores = score_predictions(data, predictions, reward or ["visual_jigsaw"])
    if as_json:
        typer.echo(json.dumps(scores, indent=2))
    else:
        _show(score_table(scores))


@app.command(epilog="Example: jigsaw tasks image")
def tasks(
    name: Annotated[str | None, typer.Argument(help="A task or plug-in, for its configuration.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the tasks, or one task's configuration keys."""
    from jigsaw.listings import task_table, tasks_table
    from tasks import describe_task, task_names

    if name is None:
        found = [describe_task(known) for known in task_names()]
        typer.echo(json.dumps(found, indent=2)) if as_json else _show(tasks_table(found))
    else:
        one = describe_task(name)
        typer.echo(json.dumps(one, indent=2)) if as_json else _show(task_table(one))


@app.command(epilog="Example: jigsaw rewards check my_rewards.py:brevity")
def rewards(
    name: Annotated[str | None, typer.Argument(help="A reward or plug-in; or the word check.")] = None,
    plugin: Annotated[str | None, typer.Argument(help="After check: the plug-in to validate.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the rewards and metrics, show one, or check a plug-in."""
    from dataclasses import asdict

    from jigsaw.listings import reward_table, rewards_table
    from rewards import check_reward, describe_reward, list_rewards

    if (name == "check") != (plugin is not None):
        raise typer.BadParameter("write: jigsaw rewards check NAME", param_hint="NAME")
    if name is None:
        found = list_rewards()
        typer.echo(json.dumps([asdict(info) for info in found], indent=2)) if as_json else _show(rewards_table(found))
        return
    info = describe_reward(name) if plugin is None else check_reward(plugin)
    typer.echo(json.dumps(asdict(info), indent=2)) if as_json else _show(reward_table(info))


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


def _grid(text: str) -> tuple[int, int]:
    rows, cross, columns = text.partition("x")
    if not (cross and rows.isdecimal() and columns.isdecimal() and int(rows) * int(columns) > 1):
        raise typer.BadParameter(f"{text!r} is not of the form RxC", param_hint="--grid")
    return int(rows), int(columns)


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
