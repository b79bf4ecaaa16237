"""Commands for downstream benchmarks: bench, realunify."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from jigsaw.cli.arguments import BatchSize, Dtype, Engine, MaxNewTokens, checkpoint_of, grid_size, results_folder
from jigsaw.cli.printing import AsJson

app = typer.Typer()

Model = Annotated[str, typer.Argument(help="A run folder, a checkpoint folder or a hub id.")]
Rows = Annotated[int | None, typer.Option(min=1, help="Maximum rows of each benchmark or part.  [default: all]")]


@app.command(epilog="Example: jigsaw bench runs/mine/model image --data-root benchmarks-data")
def bench(
    model: Model,
    suite: Annotated[str, typer.Argument(help="The suite: image, video, depth or neo.")],
    data_root: Annotated[Path, typer.Option(help="Folder of the benchmarks' data.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results; existing ones are continued.  [default: evals/SUITE-MODEL]"),
    ] = None,
    frames: Annotated[
        list[int] | None,
        typer.Option(help="Maximum frames of a clip; repeatable.  [default: 16 32 64 for video, otherwise 32]"),
    ] = None,
    boxes: Annotated[
        str | None, typer.Option(help="Unit of boxes: pixels or thousandths.  [default: the model's]")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Results of another model on the same suite, for comparison.")
    ] = None,
    limit: Rows = None,
    engine: Engine = "transformers",
    dtype: Dtype = "float32",
    batch_size: BatchSize = 16,
    max_new_tokens: MaxNewTokens = 1024,
    as_json: AsJson = False,
) -> None:
    """Run a suite of benchmarks through lmms-eval.

    A suite has the benchmarks of one table of the paper. Those whose data are missing below the data root are listed
    with the command that fetches them; the others run. A second call runs the benchmarks that have no result yet or
    that failed.
    """
    model = checkpoint_of(model)
    from jigsaw.answering.generation import Generation
    from jigsaw.results.log_file import to_json
    from jigsaw.suites.evaluate import evaluate_suite, suite_text

    target = results_folder(out, suite, model)
    log = evaluate_suite(
        model,
        suite,
        data_root,
        out=target,
        frames=frames or (),
        generation=Generation(engine, dtype, batch_size, max_new_tokens),
        limit=limit,
        boxes=boxes,
        against=against,
        note=partial(typer.echo, err=True),
    )
    folders = [target] if against is None else [against, target]
    typer.echo(to_json(log) if as_json else suite_text(log, folders), nl=not as_json)


@app.command(epilog="Example: jigsaw realunify runs/mine/model --data-root realunify-data")
def realunify(
    model: Annotated[str, typer.Argument(help="A run folder, a checkpoint folder, a hub id or MODEL@URL.")],
    data_root: Annotated[Path, typer.Option(help="Folder of the files that RealUnify's authors publish.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results; existing ones are continued.  [default: evals/realunify-MODEL]"),
    ] = None,
    editor: Annotated[str | None, typer.Option(help="Image editing model: file.py:function or MODEL@URL.")] = None,
    generator: Annotated[
        str | None, typer.Option(help="Image generation model: file.py:function or MODEL@URL.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="URL of the judge's OpenAI-compatible server, ending in /v1.")
    ] = None,
    judge_model: Annotated[str, typer.Option(help="Name of the judge model on its server.")] = "judge",
    judge_timeout: Annotated[float, typer.Option(min=0.1, help="Time limit of one reply of the judge, seconds.")] = 120,
    oracle_reader: Annotated[
        str | None, typer.Option(help="Oracle setting: a strong understanding model, MODEL@URL.")
    ] = None,
    oracle_editor: Annotated[
        str | None, typer.Option(help="Oracle setting: a strong editing model, as in --editor.")
    ] = None,
    oracle_generator: Annotated[
        str | None, typer.Option(help="Oracle setting: a strong generation model, as in --generator.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Time limit of one answer from a MODEL@URL, seconds.")] = 300,
    grid: Annotated[str, typer.Option(help="Rows x columns of the grid in puzzles that cut a picture.")] = "3x3",
    limit: Rows = None,
    engine: Engine = "transformers",
    dtype: Dtype = "float32",
    batch_size: BatchSize = 16,
    max_new_tokens: MaxNewTokens = 1024,
    as_json: AsJson = False,
) -> None:
    """Run the RealUnify benchmark.

    Only the parts whose files and models are available run. MODEL@URL is a model on an OpenAI-compatible server, such
    as flux@http://127.0.0.1:8000/v1. A second call asks only the questions that have no answer yet.
    """
    from jigsaw.realunify.endpoint import split_spec

    named = split_spec(model)
    model = model if named else checkpoint_of(model)
    from jigsaw.answering.generation import Generation
    from jigsaw.realunify.evaluate import evaluate_realunify
    from jigsaw.realunify.log import realunify_text
    from jigsaw.results.log_file import to_json

    target = results_folder(out, "realunify", named[0] if named else model)
    log = evaluate_realunify(
        model,
        data_root,
        out=target,
        editor=editor,
        generator=generator,
        judge=judge,
        judge_model=judge_model,
        judge_timeout=judge_timeout,
        oracle_reader=oracle_reader,
        oracle_editor=oracle_editor,
        oracle_generator=oracle_generator,
        timeout=timeout,
        grid=grid_size(grid),
        generation=Generation(engine, dtype, batch_size, max_new_tokens),
        limit=limit,
        note=partial(typer.echo, err=True),
    )
    typer.echo(to_json(log) if as_json else realunify_text(log, target), nl=not as_json)
