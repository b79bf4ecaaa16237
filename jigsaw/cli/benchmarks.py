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
Rows = Annotated[int | None, typer.Option(min=1, help="Most rows to use of each benchmark or part.")]


@app.command(epilog="Example: jigsaw bench runs/mine/model image --data-root benchmarks-data")
def bench(
    model: Model,
    suite: Annotated[str, typer.Argument(help="image, video, depth or neo.")],
    data_root: Annotated[Path, typer.Option(help="Folder of the benchmarks.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; continues there.  [default: evals/SUITE-MODEL]")
    ] = None,
    frames: Annotated[
        list[int] | None,
        typer.Option(help="Most frames of a clip; may be given again.  [default: 16 32 64 for video, else 32]"),
    ] = None,
    boxes: Annotated[
        str | None, typer.Option(help="Unit of boxes, pixels or thousandths.  [default: by the model]")
    ] = None,
    against: Annotated[Path | None, typer.Option(help="Folder of the same suite with another model.")] = None,
    limit: Rows = None,
    engine: Engine = "transformers",
    dtype: Dtype = "float32",
    batch_size: BatchSize = 16,
    max_new_tokens: MaxNewTokens = 1024,
    as_json: AsJson = False,
) -> None:
    """Run the benchmarks of a paper's table through lmms-eval.

    What is missing below the data root is listed with the command that fetches it; the rest runs. A second call runs
    what has no result yet and what failed.
    """
    model = checkpoint_of(model)
    from jigsaw.evaluation.generation import Generation
    from jigsaw.evaluation.log import to_json
    from jigsaw.suites.suite import evaluate_suite, suite_text

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
        say=partial(typer.echo, err=True),
    )
    folders = [target] if against is None else [against, target]
    typer.echo(to_json(log) if as_json else suite_text(log, folders), nl=not as_json)


@app.command(epilog="Example: jigsaw realunify runs/mine/model --data-root realunify-data")
def realunify(
    model: Annotated[str, typer.Argument(help="A run folder, a checkpoint folder, a hub id or MODEL@URL.")],
    data_root: Annotated[Path, typer.Option(help="Folder of the authors' files.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; continues there.  [default: evals/realunify-MODEL]")
    ] = None,
    editor: Annotated[str | None, typer.Option(help="Edits pictures: file.py:function or MODEL@URL.")] = None,
    generator: Annotated[str | None, typer.Option(help="Draws pictures: file.py:function or MODEL@URL.")] = None,
    judge: Annotated[str | None, typer.Option(help="OpenAI-compatible address of the judge, with /v1.")] = None,
    judge_model: Annotated[str, typer.Option(help="The judge's name on its server.")] = "judge",
    judge_timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one reply of the judge.")] = 120,
    oracle_reader: Annotated[
        str | None, typer.Option(help="Oracle setting: strong understanding model, MODEL@URL.")
    ] = None,
    oracle_editor: Annotated[str | None, typer.Option(help="Oracle setting: strong editor, like --editor.")] = None,
    oracle_generator: Annotated[
        str | None, typer.Option(help="Oracle setting: strong generator, like --generator.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one answer behind a MODEL@URL.")] = 300,
    grid: Annotated[str, typer.Option(help="Rows x columns of a cut picture.")] = "3x3",
    limit: Rows = None,
    engine: Engine = "transformers",
    dtype: Dtype = "float32",
    batch_size: BatchSize = 16,
    max_new_tokens: MaxNewTokens = 1024,
    as_json: AsJson = False,
) -> None:
    """Run those parts of RealUnify whose files and tools are there.

    MODEL@URL is a model behind an OpenAI-compatible server, such as flux@http://127.0.0.1:8000/v1.
    A second call asks what has no answer yet.
    """
    from jigsaw.realunify.endpoint import split_spec

    named = split_spec(model)
    model = model if named else checkpoint_of(model)
    from jigsaw.evaluation.generation import Generation
    from jigsaw.evaluation.log import to_json
    from jigsaw.realunify.evaluate import evaluate_realunify
    from jigsaw.realunify.log import realunify_text

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
        say=partial(typer.echo, err=True),
    )
    typer.echo(to_json(log) if as_json else realunify_text(log, target), nl=not as_json)
