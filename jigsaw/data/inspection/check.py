"""`jigsaw check`: compares a set with its sources.

In: the folder of a set. Out: a `CheckReport`. Each source is opened, its hash is compared, its puzzles are planned
again and compared with the rows (ids, geometry, answers, prompts, classes), and each row is rendered. Stored media are
compared with rendered ones pixel by pixel. The first puzzle of a source is also verified in a second way if its task
has one. The work is done by a pool of worker processes with a time limit, as in a build.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from jigsaw.data.building.planning import Job, Refusal, plan_source
from jigsaw.data.building.pool import Pool
from jigsaw.data.loading.load import origin_of
from jigsaw.data.sources import open_source
from jigsaw.data.storage.manifest import read_manifest
from jigsaw.data.storage.media import media_columns, media_of, same_media
from jigsaw.data.storage.parts import Row, finished_part, part_files, puzzle_of, require_schema, require_values
from jigsaw.data.storage.settings import BuildConfig
from jigsaw.errors import JigsawError, first_line
from jigsaw.processes import usable_cores
from jigsaw.progress import progress_bar
from jigsaw.rewards.answers import check_answer_of
from jigsaw.tasks import ORDER, Source, Task, answer_of

COMPARED = (
    *("task", "prompt", "answer", "num_pieces", "answer_style", "classes", "source", "geometry"),
    *("answer_kind", "answer_args", "answer_value"),
)
MOST_FAULTS = 1000
"""Largest number of listed faults; all are counted."""


@dataclass(frozen=True)
class Fault:
    """A fault: the part, the source, the id of the row ('' for a whole source or part), and what is wrong."""

    part: str
    source: str
    row: str
    what: str

    def __str__(self) -> str:
        row = f", row {self.row}" if self.row else ""
        return f"{self.part}: {self.source}{row}: {self.what}"


@dataclass
class CheckReport:
    """The result of a check.

    Attributes:
        rows, sources: numbers of checked rows and sources.
        copies: rows with the id of an earlier row, because a source exists twice; they are dropped on loading.
        num_faults: number of faults.
        faults: the first thousand faults.
    """

    rows: int = 0
    sources: int = 0
    copies: int = 0
    num_faults: int = 0
    faults: list[Fault] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there are no faults."""
        return self.num_faults == 0

    def add(self, fault: Fault) -> None:
        """Count a fault, and list it if there are not too many."""
        self.num_faults += 1
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(fault)

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"ok": self.ok, **asdict(self)}


def check_puzzles(
    path: str | Path,
    source_root: str | Path | None = None,
    *,
    task: str | None = None,
    workers: int | None = None,
    time_limit: float = 120.0,
    progress: bool = True,
) -> CheckReport:
    """Check all rows of a set.

    Args:
        path: a folder that `jigsaw build` or `jigsaw import` wrote.
        source_root: where the sources are now, if they moved.
        task: spec of the plug-in task that built the set, if one did.
        workers: processes; by default one per usable core.
        time_limit: seconds for the rows of one source.
        progress: show a progress bar on a terminal if the check takes more than two seconds.

    Raises:
        JigsawError: the folder is not a complete set.
    """
    folder = Path(path).resolve()
    manifest = read_manifest(folder)
    if not manifest.complete:
        raise JigsawError(f"{path} is not complete; run its `jigsaw build` again to finish it")
    origin = origin_of(folder, manifest, source_root, task)
    settings = manifest.settings
    job = Job(
        call=f"{__name__}:check_{'source' if settings.imported is None else 'rows'}",
        root=Path(origin.source_root),
        build=BuildConfig.of(
            origin.spec,
            settings.config,
            per_source=settings.per_source,
            seed=settings.seed,
            materialize=settings.materialize,
        ),
    )
    report = CheckReport()
    if len(part_files(folder)) != settings.parts:
        found = f"{len(part_files(folder))} of {settings.parts} parts exist"
        report.add(Fault(folder.name, "", "", found))
    seen: set[str] = set()
    groups = (group for file in part_files(folder) for group in _groups_of(file, settings.digest(), report, seen))
    with (
        progress_bar("sources", manifest.counts.sources, enabled=progress) as bar,
        Pool(job, min(workers or usable_cores(), max(1, manifest.counts.sources)), time_limit) as pool,
    ):
        for (part, source, _), result in pool.run(groups):
            if isinstance(result, Refusal):
                result = [("", f"{result.reason}: {result.detail}")]
            for row, what in result:
                report.add(Fault(part, source, row, what))
            bar.advance(f"{report.num_faults} faults")
    return report


Group = tuple[str, str, list[Row]]
"""The rows of one source: the part's name, the source's path, the rows."""


def _groups_of(file: Path, digest: str, report: CheckReport, seen: set[str]) -> Iterator[Group]:
    """The rows of a part, source by source; counts them in the report."""
    import pyarrow.parquet as pq

    try:
        found = finished_part(file)
        if found is None or found[0] != digest:
            report.add(Fault(file.name, "", "", "the part belongs to another data set"))
            return
        require_schema(file)
        rows = 0
        batches = pq.ParquetFile(file).iter_batches(batch_size=64)
        stored = chain.from_iterable(batch.to_pylist() for batch in batches)
        for source, group in groupby(stored, key=lambda row: str((row["source"] or {}).get("path"))):
            members = list(group)
            report.sources += 1
            rows += len(members)
            for row in members:
                report.copies += row["id"] in seen
                seen.add(row["id"])
            yield file.name, source, members
        report.rows += rows
        if rows != found[1].puzzles:
            report.add(Fault(file.name, "", "", f"the part has {rows} rows, but was written with {found[1].puzzles}"))
    except (JigsawError, OSError, ValueError) as error:
        report.add(Fault(file.name, "", "", f"damaged: {error}".splitlines()[0]))


def check_source(task: Task, job: Job, group: Group) -> list[tuple[str, str]]:
    """Faults of the rows of one source, which are planned again and compared, then rendered. Runs in a worker."""
    _, path, rows = group
    source = _source_of(task, job, path, rows)
    if isinstance(source, str):
        return [("", source)]
    faults = []
    expected = plan_source(task, job, path)
    again = {row["id"]: row for row in expected.rows}
    for row in rows:
        if row["id"] not in again:
            faults.append((row["id"], "no puzzle of this source, configuration and seed has this id"))
            continue
        wrong = [name for name in COMPARED if _plain(row.get(name), name) != _plain(again[row["id"]][name], name)]
        if wrong:
            faults.append((row["id"], f"planned again, it differs in {', '.join(wrong)}"))
    missing = len(again.keys() - {row["id"] for row in rows})
    if missing:
        why = "".join(f" ({refusal.reason}: {refusal.detail})" for refusal in expected.refusals[:1])
        faults.append(("", f"{missing} of its {len(again)} puzzles are missing{why}"))
    return faults + _faults_of(task, source, rows)


def check_rows(task: Task, job: Job, group: Group) -> list[tuple[str, str]]:
    """Faults of the rows of one source: wrong answers, and media that cannot be rendered. Runs in a worker."""
    _, path, rows = group
    source = None if task.STORED else _source_of(task, job, path, rows)
    return [("", source)] if isinstance(source, str) else _faults_of(task, source, rows)


def _faults_of(task: Task, source: Source | None, rows: list[Row]) -> list[tuple[str, str]]:
    faults = []
    for number, row in enumerate(rows):
        try:
            for what in _row_faults(task, source, row, verify=number == 0):
                faults.append((row["id"], what))
        except Exception as error:  # whatever a plug-in or a damaged row raises
            faults.append((row["id"], f"{type(error).__name__}: {first_line(error)}"))
    return faults


def _row_faults(task: Task, source: Source | None, row: Row, *, verify: bool) -> Iterator[str]:
    """Faults of a row; raises for some.

    Args:
        source: None for a row that stores its media.
        verify: also read the puzzle in the second way of its task.
    """
    require_values(row)
    puzzle = puzzle_of(row)
    check_answer_of({**row, "answer": puzzle.answer})
    shown = puzzle.geometry.get("shown") if puzzle.answer_kind == ORDER else None
    if shown is not None and answer_of(shown) != puzzle.answer:
        yield f"the answer {list(puzzle.answer)} does not belong to the shown order {shown}"
    if source is None:
        media_columns(row, media_of(row))
        return
    rendered = task.render(puzzle, source)
    media_columns(row, rendered)
    if (row["images"] or row["videos"]) and not same_media(rendered, media_of(row)):
        yield "the stored media differ from the rendered ones"
    if verify:
        yield from task.verify(puzzle, source)


def _source_of(task: Task, job: Job, path: str, rows: list[Row]) -> Source | str:
    """The source of some rows, or its fault."""
    try:
        source = open_source(job.root, path, task.source_kind)
    except OSError as error:
        return f"the source cannot be read: {error.strerror or error}"
    changed = {row["source"]["fingerprint"] for row in rows} != {source.fingerprint}
    return "the source has changed since the set was built" if changed else source


def _plain(value: Any, column: str = "") -> Any:
    """A column's value without the nulls that Arrow adds to the parts of a prompt; the geometry as a JSON value."""
    if column == "geometry":
        try:
            return json.loads(value)
        except (TypeError, ValueError, RecursionError):
            return value
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
