"""Verbs that say how well a model does: eval, report, generalize, audit, score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from jigsaw.cli.arguments import require_model, require_runs, require_sets
from jigsaw.cli.printing import AsJson, print_table

app = typer.Typer()

OF_PUZZLES = ("samples", "temperature", "seed", "wording", "reward", "source_root", "task")
OF_SUITES = ("frames", "boxes")
OF_REALUNIFY = ("editor", "generator", "judge", "judge_model", "judge_timeout", "grid")
"""Options of `jigsaw eval` that mean something for puzzles, for benchmark suites, for RealUnify; elsewhere refused."""


@app.command("eval", epilog="Example: jigsaw eval runs/quickstart")
def evaluate(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A run folder, a checkpoint folder or a hub id.")],
    data: Annotated[Path | None, typer.Argument(help="A puzzle set.  [default: the run's held-out sets]")] = None,
    suite: Annotated[
        str | None, typer.Option(help="Benchmarks instead: image, video, depth, neo or realunify.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Suites: where the benchmarks lie.")] = None,
    frames: Annotated[
        list[int] | None,
        typer.Option(help="Suites: most frames of a clip; may be given again.  [default: 16 32 64 for video, else 32]"),
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(help="Suites: unit of boxes, pixels or thousandths.  [default: by the model]"),
    ] = None,
    editor: Annotated[str | None, typer.Option(help="RealUnify: plug-in that edits pictures.")] = None,
    generator: Annotated[str | None, typer.Option(help="RealUnify: plug-in that draws pictures.")] = None,
    judge: Annotated[str | None, typer.Option(help="RealUnify: an OpenAI-compatible address, with /v1.")] = None,
    judge_model: Annotated[str, typer.Option(help="RealUnify: what the judge's server calls it.")] = "judge",
    judge_timeout: Annotated[float, typer.Option(min=0.1, help="RealUnify: seconds that a judge may take.")] = 120,
    grid: Annotated[str, typer.Option(help="RealUnify: rows x columns of a cut picture.")] = "3x3",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the evaluation; given again, goes on there.  "
            "[default: none for puzzles, evals/SUITE-MODEL for suites]"
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help="transformers or vllm.")] = "transformers",
    samples: Annotated[int, typer.Option(min=1, help="Puzzles: completions of each; 1 is greedy, more are drawn.")] = 1,
    temperature: Annotated[float, typer.Option(help="Puzzles: temperature of drawn completions.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Puzzles: seed of drawn completions.")] = 0,
    against: Annotated[
        Path | None, typer.Option(help="Puzzles, suites: another evaluation's folder, to compare with.")
    ] = None,
    wording: Annotated[int, typer.Option(min=0, help="Puzzles: ask in other words, 1 or 2; 0: as in training.")] = 0,
    reward: Annotated[
        list[str] | None,
        typer.Option(help="Puzzles: part of `reward`, the sum; may be given again.  [default: visual_jigsaw]"),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts generated together.")] = 16,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of a completion.")] = 1024,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="At most so many puzzles, spread over the set; of a suite, rows of each benchmark."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    source_root: Annotated[Path | None, typer.Option(help="Puzzles: where the sources are now, if they moved.")] = None,
    task: Annotated[str | None, typer.Option(help="Puzzles: the plug-in task that built the set.")] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a model on a puzzle set or a benchmark suite.

    A run folder alone is evaluated on the run's own held-out puzzles, with its own settings. Scores on puzzles are
    compared with random guessing, and their intervals allow for puzzles that share a source. `jigsaw report` makes a
    page of the folder.
    """
    from jigsaw.evaluation.own_run import evaluate_on_own_sets, is_run, trained_model

    of_run = is_run(model)
    if data is not None and suite is not None:
        raise typer.BadParameter("name either a puzzle set, or a suite with --suite", param_hint="DATA")
    if data is None and suite is None and not of_run and not Path(model).exists():
        require_runs(Path(model))
    if data is None and suite is None and not of_run:
        raise typer.BadParameter("name a puzzle set, a suite with --suite, or a run folder as MODEL", param_hint="DATA")
    _refuse_others(context, suite)
    if suite is not None and data_root is None:
        raise typer.BadParameter("name the folder of the benchmarks", param_hint="--data-root")
    require_model(model)
    require_sets(data)
    options: dict[str, Any] = {
        "engine": engine,
        "dtype": dtype,
        "batch_size": batch_size,
        "max_new_tokens": max_new_tokens,
    }
    options |= {"samples": samples, "temperature": temperature, "seed": seed}
    if data is None and suite is None:
        if task is not None:
            raise typer.BadParameter("is for a puzzle set; the run's recipe names its tasks", param_hint="--task")
        from jigsaw.evaluation.tables import evaluation_tables

        own = evaluate_on_own_sets(
            Path(model),
            generation={name: value for name, value in options.items() if _was_given(context, name)},
            rewards=reward,
            out=out,
            limit=limit,
            wording=wording,
            against=against,
            source_root=source_root,
        )
        if as_json:
            typer.echo(json.dumps(own, indent=2))
        else:
            for name, figures in own.items():
                typer.echo(f"{name}:")
                print_table(evaluation_tables(figures))
        return
    from jigsaw.evaluation.generation import Generation

    if of_run:
        model = str(trained_model(Path(model)))
    generation = Generation(**options)
    if suite is not None:
        assert data_root is not None
        shared: dict[str, Any] = {"generation": generation, "limit": limit}
        shared |= {"out": out or Path("evals") / f"{suite}-{model.strip('./').replace('/', '-')}"}
        shared["say"] = lambda line: typer.echo(line, err=True)
        if suite == "realunify":
            tools: dict[str, Any] = {"editor": editor, "generator": generator, "grid": _grid(grid)}
            tools |= {"judge": judge, "judge_model": judge_model, "judge_timeout": judge_timeout}
            _realunify(model, data_root, tools | shared, as_json)
        else:
            _suite(
                model, suite, data_root, {"frames": frames or (), "boxes": boxes, "against": against} | shared, as_json
            )
        return
    from jigsaw.evaluation.run import evaluate_checkpoint
    from jigsaw.evaluation.tables import evaluation_tables

    assert data is not None
    figures = evaluate_checkpoint(
        model,
        data,
        generation=generation,
        out=out,
        rewards=reward or ["visual_jigsaw"],
        limit=limit,
        wording=wording,
        against=against,
        source_root=source_root,
        task=task,
    )
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
    else:
        print_table(evaluation_tables(figures))


@app.command(epilog="Example: jigsaw report runs/quickstart runs/quickstart-2 --table latex")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, evaluations, suites or generalizations.")],
    out: Annotated[Path | None, typer.Option(help="The page.  [default: report.html in the first run]")] = None,
    table: Annotated[str | None, typer.Option(help="Print the table instead: markdown, latex, csv or json.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for the plots as SVG files.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write one HTML page about runs, or print their table.

    Below the table stand the file, the fields and the command behind every figure. With --plots alone no page is
    written.
    """
    if as_json and table:
        raise typer.BadParameter("not with --table; it is the same as --table json", param_hint="--json")
    if out is not None and (as_json or table):
        raise typer.BadParameter("not with --table or --json, which print", param_hint="--out")
    require_runs(*runs)
    from jigsaw.evaluation.paper import printed
    from jigsaw.report.page import write_report
    from jigsaw.report.results import paper_tables, write_plots
    from jigsaw.run_folder import RunFolder

    if as_json or table:
        typer.echo(printed(paper_tables(runs), "json" if as_json else str(table)), nl=False)
    if plots is not None:
        for path in write_plots(runs, plots):
            typer.echo(f"{path}", err=as_json or table is not None)
    if out is not None or not (as_json or table or plots):
        page = out or RunFolder(runs[0]).report
        write_report(runs, page)
        typer.echo(f"{page}")


@app.command(epilog="Example: jigsaw generalize runs/quickstart --sizes 2x2 --sizes 3x3")
def generalize(
    run: Annotated[Path, typer.Argument(help="A run folder with its model.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write.  [default: generalization in the run]")] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option(help="Size to try; may be given again.  [default: the sizes that the task names]"),
    ] = None,
    puzzles: Annotated[int, typer.Option(min=1, help="Most puzzles per condition.")] = 256,
    engine: Annotated[str, typer.Option(help="transformers or vllm.")] = "transformers",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts generated together.")] = 16,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of a completion.")] = 1024,
    task: Annotated[str | None, typer.Option(help="The plug-in task that built the sets.")] = None,
    as_json: AsJson = False,
) -> None:
    """Try a run's model on unseen sources, sizes and words."""
    require_runs(run)
    from jigsaw.evaluation.generalization import generalization_table
    from jigsaw.evaluation.generalization import generalize as carry_out
    from jigsaw.evaluation.generation import Generation
    from jigsaw.evaluation.paper import printed

    target = out or run / "generalization"
    generation = Generation(engine, dtype, batch_size, max_new_tokens)
    found = carry_out(run, out=target, sizes=sizes or (), puzzles=puzzles, task=task, generation=generation)
    typer.echo(json.dumps(found, indent=2) if as_json else printed([generalization_table(found)], "markdown"))


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
    require_sets(data)
    from jigsaw.audit.audit import audit_puzzles, audit_tables

    found = audit_puzzles(data, limit=limit, source_root=source_root, task=task)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        print_table(audit_tables(found))


@app.command(epilog="Example: jigsaw score data/photos-3x3 predictions.jsonl --reward visual_jigsaw")
def score(
    data: Annotated[Path, typer.Argument(help="A puzzle set.")],
    predictions: Annotated[Path, typer.Argument(help="JSON lines, each with id and text.")],
    reward: Annotated[
        list[str] | None, typer.Option(help="Reward to report; may be given again.  [default: visual_jigsaw]")
    ] = None,
    think_prefilled: Annotated[
        bool,
        typer.Option("--think-prefilled", help="The chat template wrote <think>: completions begin after it."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score completions that were made elsewhere.

    Means are per task and number of pieces; missing, duplicate and unknown ids are reported and left out of them.
    """
    require_sets(data)
    from jigsaw.evaluation.scoring import score_predictions, score_table

    scores = score_predictions(data, predictions, reward or ["visual_jigsaw"], think_prefilled=think_prefilled)
    if as_json:
        typer.echo(json.dumps(scores, indent=2))
    else:
        print_table(score_table(scores))


def _refuse_others(context: typer.Context, suite: str | None) -> None:
    """Refuse options that would be left unused."""
    others = {
        "puzzle sets": OF_PUZZLES if suite else (),
        "--suite": () if suite else ("data_root",),
        "--suite image, video, depth or neo": OF_SUITES if suite in (None, "realunify") else (),
        "--suite realunify": () if suite == "realunify" else OF_REALUNIFY,
        "puzzle sets and the other suites": ("against",) if suite == "realunify" else (),
    }
    for home, names in others.items():
        for name in names:
            if _was_given(context, name):
                raise typer.BadParameter(f"is for {home}", param_hint=f"--{name.replace('_', '-')}")


def _was_given(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _suite(model: str, suite: str, data_root: Path, options: dict[str, Any], as_json: bool) -> None:
    from jigsaw.suites.suite import evaluate_suite, suite_text

    found = evaluate_suite(model, suite, data_root, **options)
    typer.echo(json.dumps(found, indent=2) if as_json else suite_text(found))


def _realunify(model: str, data_root: Path, options: dict[str, Any], as_json: bool) -> None:
    from jigsaw.realunify.evaluate import evaluate_realunify, realunify_text

    found = evaluate_realunify(model, data_root, **options)
    typer.echo(json.dumps(found, indent=2) if as_json else realunify_text(found))


def _grid(text: str) -> tuple[int, int]:
    rows, cross, columns = text.partition("x")
    if not (cross and rows.isdecimal() and columns.isdecimal() and int(rows) * int(columns) > 1):
        raise typer.BadParameter(f"{text!r} is not of the form RxC", param_hint="--grid")
    return int(rows), int(columns)
