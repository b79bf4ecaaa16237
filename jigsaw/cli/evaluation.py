"""Commands about how good a model is: eval, score, report, generalize, audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jigsaw.cli.arguments import (
    BatchSize,
    Dtype,
    Engine,
    MaxNewTokens,
    SourceRoot,
    TaskSpec,
    key_values,
    require_model,
    require_runs,
    require_sets,
)
from jigsaw.cli.printing import AsJson, print_table

app = typer.Typer()

FURTHER = {"temperature": float, "seed": int, "wording": int, "source_root": Path}
"""Settings of `jigsaw eval --set`."""


@app.command("eval", epilog="Example: jigsaw eval runs/quickstart")
def evaluate(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A run folder, a checkpoint folder or a hub id.")],
    data: Annotated[
        list[Path] | None,
        typer.Argument(help="Puzzle sets; the first is the one that counts.  [default: the run's held-out sets]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the evaluation; continues there.  [default: none]")
    ] = None,
    engine: Engine = "transformers",
    samples: Annotated[int, typer.Option(min=1, help="Completions of each puzzle; 1 is greedy decoding.")] = 1,
    against: Annotated[Path | None, typer.Option(help="Another evaluation's folder, to compare with.")] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(
            help="Part of `reward`, the sum; may be given again.  [default: visual_jigsaw, or answer where there are "
            "other answers than orders]"
        ),
    ] = None,
    batch_size: BatchSize = 16,
    max_new_tokens: MaxNewTokens = 1024,
    limit: Annotated[int | None, typer.Option(min=1, help="Most puzzles to use, spread over the set.")] = None,
    dtype: Dtype = "float32",
    task: TaskSpec = None,
    further: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="temperature, seed (of several samples), wording (a prompt variant, 1 or 2) or source_root (where "
            "the sources are now); may be given again.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a model on puzzles.

    A run folder alone is evaluated on the run's own held-out puzzles, with its own settings. Scores are compared with
    random guessing, and their intervals allow for puzzles that share a source. `jigsaw report` makes a page of the
    folder; `jigsaw bench` runs benchmarks.
    """
    from jigsaw.evaluation.runs import is_run, named_sets, trained_model

    of_run = is_run(model)
    if not data and not of_run:
        if not Path(model).exists():
            require_runs(Path(model))
        raise typer.BadParameter("name a puzzle set, or a run folder as MODEL", param_hint="DATA")
    require_model(model)
    require_sets(*(data or ()))
    if not data and task is not None:
        raise typer.BadParameter("is for a puzzle set; the run's recipe names its tasks", param_hint="--task")
    settings = _further(further or [])
    generation: dict[str, Any] = {
        "engine": engine,
        "dtype": dtype,
        "batch_size": batch_size,
        "max_new_tokens": max_new_tokens,
        "samples": samples,
    }
    sampling = {name: settings.pop(name) for name in ("temperature", "seed") if name in settings}
    options = {"out": out, "against": against, **settings}
    from jigsaw.evaluation.evaluate import evaluate_checkpoint, evaluate_on_own_sets
    from jigsaw.evaluation.generation import Generation
    from jigsaw.evaluation.log import to_json
    from jigsaw.evaluation.tables import log_tables

    if not data:
        given = {name: value for name, value in generation.items() if _was_given(context, name)}
        log = evaluate_on_own_sets(Path(model), generation=given | sampling, rewards=reward, limit=limit, **options)
    else:
        log = evaluate_checkpoint(
            str(trained_model(Path(model))) if of_run else model,
            named_sets(data, task, limit),
            generation=Generation(**generation, **sampling),
            rewards=reward,
            **options,
        )
    typer.echo(to_json(log), nl=False) if as_json else print_table(log_tables(log))


@app.command(epilog="Example: jigsaw solve runs/quickstart holiday.jpg")
def solve(
    model: Annotated[str, typer.Argument(help="A run folder, a checkpoint folder or a hub id.")],
    files: Annotated[list[Path], typer.Argument(help="Photos or videos of yours, or a folder of a task's sources.")],
    out: Annotated[
        Path | None, typer.Option(help="New folder for puzzles, answers and page.  [default: solved, or solved-2, ...]")
    ] = None,
    task: Annotated[str | None, typer.Option(help="A task.  [default: that of the run, or image]")] = None,
    further: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Configuration of the task; may be given again."),
    ] = None,
    puzzles: Annotated[int, typer.Option(min=1, help="Puzzles of each file.")] = 3,
    seed: Annotated[int, typer.Option(help="Random seed of cuts and orders.")] = 0,
    engine: Engine = "transformers",
    as_json: AsJson = False,
) -> None:
    """Let a model solve puzzles cut from your own files.

    A page shows its answers. The model of a run gets puzzles as it was trained on, any other those of --task and --set.
    """
    require_model(model)
    from jigsaw.evaluation.log import to_json
    from jigsaw.evaluation.solve import answer_lines, free_folder, solve

    folder = out or free_folder(Path("solved"))
    log = solve(
        model,
        files,
        folder,
        task=task,
        config=key_values(further or []),
        puzzles=puzzles,
        seed=seed,
        generation={"engine": engine},
    )
    if as_json:
        typer.echo(to_json(log), nl=False)
        return
    for line in answer_lines(log):
        typer.echo(line)
    typer.echo(f"Page: {folder / 'report.html'}")


@app.command(epilog="Example: jigsaw report runs/quickstart runs/quickstart-2 --table latex")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, evaluations, suites or generalizations.")],
    out: Annotated[Path | None, typer.Option(help="The page.  [default: report.html in the first run]")] = None,
    table: Annotated[str | None, typer.Option(help="Print the table instead: markdown, latex, csv or json.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for the plots as SVG files.")] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="A plug-in task that built held-out puzzles; may be given again.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one HTML page about runs, or print their table.

    Below the table are the files that it is read from, and the command that wrote each. With --plots alone no page is
    written.
    """
    if as_json and table:
        raise typer.BadParameter("not with --table; it is the same as --table json", param_hint="--json")
    if out is not None and (as_json or table):
        raise typer.BadParameter("not with --table or --json, which print", param_hint="--out")
    require_runs(*runs)
    from jigsaw.evaluation.tables import printed
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
        write_report(runs, page, tasks=task or ())
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
    engine: Engine = "transformers",
    dtype: Dtype = "float32",
    batch_size: BatchSize = 16,
    max_new_tokens: MaxNewTokens = 1024,
    task: TaskSpec = None,
    as_json: AsJson = False,
) -> None:
    """Try a run's model on unseen sources, sizes and words."""
    require_runs(run)
    from jigsaw.evaluation.generalization import FILE, generalization_table
    from jigsaw.evaluation.generalization import generalize as run_conditions
    from jigsaw.evaluation.generation import Generation
    from jigsaw.evaluation.log import to_json
    from jigsaw.evaluation.tables import printed

    target = out or run / "generalization"
    generation = Generation(engine, dtype, batch_size, max_new_tokens)
    found = run_conditions(run, out=target, sizes=sizes or (), puzzles=puzzles, task=task, generation=generation)
    table = generalization_table(found, target / FILE)
    typer.echo(to_json(found) if as_json else printed([table], "markdown"), nl=not as_json)


@app.command(epilog="Example: jigsaw audit data/photos-3x3")
def audit(
    data: Annotated[Path, typer.Argument(help="A puzzle set.")],
    limit: Annotated[int, typer.Option(min=1, help="Most puzzles to use, spread over the set.")] = 500,
    source_root: SourceRoot = None,
    task: TaskSpec = None,
    as_json: AsJson = False,
) -> None:
    """Measure how well shortcuts solve a puzzle set.

    It tries constant answers, borders, brightness, positions and compression. If a rule scores well, so can a model
    that does not look. The option that prevents each is named.
    """
    require_sets(data)
    from jigsaw.audit import audit_puzzles
    from jigsaw.audit.tables import audit_tables
    from jigsaw.evaluation.log import to_json

    found = audit_puzzles(data, limit=limit, source_root=source_root, task=task)
    if as_json:
        typer.echo(to_json(found), nl=False)
    else:
        print_table(audit_tables(found))


@app.command(epilog="Example: jigsaw score data/photos-3x3 predictions.jsonl --reward visual_jigsaw")
def score(
    data: Annotated[Path, typer.Argument(help="A puzzle set.")],
    predictions: Annotated[Path, typer.Argument(help="JSON lines, each with id and text.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the log, as of jigsaw eval.  [default: none]")] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(help="Part of `reward`, the sum; may be given again.  [default: visual_jigsaw or answer]"),
    ] = None,
    think_prefilled: Annotated[
        bool,
        typer.Option("--think-prefilled", help="The chat template wrote <think>: completions begin after it."),
    ] = False,
    source_root: SourceRoot = None,
    task: TaskSpec = None,
    as_json: AsJson = False,
) -> None:
    """Score completions that were made elsewhere.

    The figures are those of jigsaw eval for the same completions. Missing, duplicate and unknown ids are reported and
    left out.
    """
    require_sets(data)
    from jigsaw.evaluation.log import to_json
    from jigsaw.evaluation.score import score_predictions
    from jigsaw.evaluation.tables import log_tables

    log = score_predictions(
        data,
        predictions,
        reward,
        think_prefilled=think_prefilled,
        source_root=source_root,
        task=task,
        out=out,
    )
    typer.echo(to_json(log), nl=False) if as_json else print_table(log_tables(log))


def _further(items: list[str]) -> dict[str, Any]:
    """The settings of `--set`, by name and in their types."""
    found: dict[str, Any] = {}
    for name, text in key_values(items).items():
        if name not in FURTHER:
            raise typer.BadParameter(f"unknown setting {name!r}; it takes {', '.join(FURTHER)}", param_hint="--set")
        try:
            found[name] = FURTHER[name](text)
        except ValueError as error:
            raise typer.BadParameter(f"{name}: {text!r} is no number", param_hint="--set") from error
    return found


def _was_given(context: typer.Context, name: str) -> bool:
    """Whether an option is on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
