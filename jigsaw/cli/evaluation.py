"""Commands that evaluate models and puzzle sets: eval, solve, report, generalize, audit, score."""

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

FURTHER = {"temperature": float, "seed": int, "prompt_variant": int, "source_root": Path}
"""Settings of `jigsaw eval --set`."""


@app.command("eval", epilog="Example: jigsaw eval runs/quickstart")
def evaluate(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A run folder, a checkpoint folder or a hub id.")],
    data: Annotated[
        list[Path] | None,
        typer.Argument(help="Puzzle sets; the first one is the main set.  [default: the run's held-out sets]"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the evaluation; an interrupted one is continued.  [default: not saved]"),
    ] = None,
    engine: Engine = "transformers",
    samples: Annotated[int, typer.Option(min=1, help="Completions per puzzle; 1 is greedy decoding.")] = 1,
    against: Annotated[Path | None, typer.Option(help="Folder of another evaluation, for a paired comparison.")] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(
            help="A reward of the score `reward`, which is the sum of all that are given; repeatable.  [default: the "
            "run's rewards on its own sets; otherwise visual_jigsaw, or answer for sets with other answers than orders]"
        ),
    ] = None,
    batch_size: BatchSize = 16,
    max_new_tokens: MaxNewTokens = 1024,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Maximum puzzles, spread over the set.  [default: all]")
    ] = None,
    dtype: Dtype = "float32",
    task: TaskSpec = None,
    further: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="temperature, seed (both with --samples), prompt_variant (1 or 2) or source_root (the "
            "folder of moved sources); repeatable.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a model on puzzles.

    Without DATA, a run is evaluated on its own held-out puzzles with its own settings. Scores are compared with random
    guessing, and their intervals account for puzzles that share a source. `jigsaw report` turns the folder into a page;
    `jigsaw bench` runs benchmarks.
    """
    from jigsaw.evaluation.runs import is_run, named_sets, trained_model

    of_run = is_run(model)
    if not data and not of_run:
        if not Path(model).exists():
            require_runs(Path(model))
        raise typer.BadParameter("give a puzzle set, or a run folder as MODEL", param_hint="DATA")
    require_model(model)
    require_sets(*(data or ()))
    if not data and task is not None:
        raise typer.BadParameter("needs a puzzle set; the recipe of a run names its tasks", param_hint="--task")
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
    from jigsaw.answering.generation import Generation
    from jigsaw.evaluation.evaluate import evaluate_checkpoint, evaluate_on_own_sets
    from jigsaw.evaluation.tables import log_tables
    from jigsaw.results.log_file import to_json

    if not data:
        chosen = {name: value for name, value in generation.items() if _is_explicit(context, name)}
        log = evaluate_on_own_sets(Path(model), generation=chosen | sampling, rewards=reward, limit=limit, **options)
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
    files: Annotated[list[Path], typer.Argument(help="Your photos or videos, or a folder of a task's sources.")],
    out: Annotated[
        Path | None,
        typer.Option(help="New folder for the puzzles, answers and page.  [default: solved, or solved-2, ...]"),
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task.  [default: the task of the run, or image]")] = None,
    further: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the task; repeatable."),
    ] = None,
    puzzles: Annotated[int, typer.Option(min=1, help="Puzzles from each file.")] = 3,
    seed: Annotated[int, typer.Option(help="Random seed of the puzzles.")] = 0,
    engine: Engine = "transformers",
    as_json: AsJson = False,
) -> None:
    """Let a model solve puzzles made from your own files.

    The answers are printed and shown on an HTML page. The model of a run gets the kind of puzzle that it was trained
    on; for any other model, --task and --set choose it.
    """
    require_model(model)
    from jigsaw.results.log_file import to_json
    from jigsaw.solve import answer_lines, free_folder, solve

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
    out: Annotated[
        Path | None, typer.Option(help="HTML file to write.  [default: report.html in the first folder]")
    ] = None,
    table: Annotated[
        str | None, typer.Option(help="Print the table instead of a page: markdown, latex, csv or json.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Write the plots to this folder, as SVG files.")] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="A plug-in task that built held-out puzzles; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one HTML page about runs, or print their table.

    Below the table are the files that its figures come from, with the commands that wrote them. If only --plots is
    given, no page is written.
    """
    if as_json and table:
        raise typer.BadParameter("cannot be combined with --table; it is the same as --table json", param_hint="--json")
    if out is not None and (as_json or table):
        raise typer.BadParameter("cannot be combined with --table or --json, which print", param_hint="--out")
    require_runs(*runs)
    from jigsaw.report.charts.plots import write_plots
    from jigsaw.report.page import write_report
    from jigsaw.report.tables import paper_tables
    from jigsaw.results.tables import printed
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
    run: Annotated[Path, typer.Argument(help="A run folder that has a trained model.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results.  [default: generalization in the run folder]")
    ] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option(help="Size of puzzles, such as 3x3; repeatable.  [default: the sizes that the task suggests]"),
    ] = None,
    puzzles: Annotated[int, typer.Option(min=1, help="Maximum puzzles per condition.")] = 256,
    engine: Engine = "transformers",
    dtype: Dtype = "float32",
    batch_size: BatchSize = 16,
    max_new_tokens: MaxNewTokens = 1024,
    task: TaskSpec = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a run's model on unseen sources, sizes and prompts."""
    require_runs(run)
    from jigsaw.answering.generation import Generation
    from jigsaw.evaluation.generalization import FILE, generalization_table
    from jigsaw.evaluation.generalization import generalize as run_conditions
    from jigsaw.results.log_file import to_json
    from jigsaw.results.tables import printed

    target = out or run / "generalization"
    generation = Generation(engine, dtype, batch_size, max_new_tokens)
    log = run_conditions(run, out=target, sizes=sizes or (), puzzles=puzzles, task=task, generation=generation)
    table = generalization_table(log, target / FILE)
    typer.echo(to_json(log) if as_json else printed([table], "markdown"), nl=not as_json)


@app.command(epilog="Example: jigsaw audit data/photos-3x3")
def audit(
    data: Annotated[Path, typer.Argument(help="A puzzle set.")],
    limit: Annotated[int, typer.Option(min=1, help="Maximum puzzles, spread over the set.")] = 500,
    source_root: SourceRoot = None,
    task: TaskSpec = None,
    as_json: AsJson = False,
) -> None:
    """Measure how well shortcuts solve a puzzle set.

    The shortcuts are simple rules: constant answers, borders, brightness, positions, compression. If a rule scores
    well, a model can do so without understanding the pictures. The table names the option that prevents each shortcut.
    """
    require_sets(data)
    from jigsaw.audit import audit_puzzles
    from jigsaw.audit.audit import audit_tables
    from jigsaw.results.log_file import to_json

    result = audit_puzzles(data, limit=limit, source_root=source_root, task=task)
    if as_json:
        typer.echo(to_json(result), nl=False)
    else:
        print_table(audit_tables(result))


@app.command(epilog="Example: jigsaw score data/photos-3x3 predictions.jsonl --reward visual_jigsaw")
def score(
    data: Annotated[Path, typer.Argument(help="A puzzle set.")],
    predictions: Annotated[Path, typer.Argument(help="A file of JSON lines, each with id and text.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the evaluation, as of jigsaw eval.  [default: not saved]")
    ] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(
            help="A reward of the score `reward`, which is the sum of all that are given; repeatable.  [default: "
            "visual_jigsaw; answer for sets with other answers than orders]"
        ),
    ] = None,
    think_prefilled: Annotated[
        bool,
        typer.Option("--think-prefilled", help="The completions begin after <think>, which the prompt contains."),
    ] = False,
    source_root: SourceRoot = None,
    task: TaskSpec = None,
    as_json: AsJson = False,
) -> None:
    """Score completions that another program generated.

    The figures are the same as those of jigsaw eval. Missing, duplicate and unknown ids are reported and left out.
    """
    require_sets(data)
    from jigsaw.evaluation.score import score_predictions
    from jigsaw.evaluation.tables import log_tables
    from jigsaw.results.log_file import to_json

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
    """The settings of `--set`, converted to their types."""
    settings: dict[str, Any] = {}
    for name, text in key_values(items).items():
        if name not in FURTHER:
            raise typer.BadParameter(f"unknown setting {name!r}; known: {', '.join(FURTHER)}", param_hint="--set")
        try:
            settings[name] = FURTHER[name](text)
        except ValueError as error:
            raise typer.BadParameter(f"{name}: {text!r} is not a number", param_hint="--set") from error
    return settings


def _is_explicit(context: typer.Context, name: str) -> bool:
    """Whether the user gave an option on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
