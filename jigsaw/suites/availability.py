"""What of a suite lies ready under a data root, looked at before anything runs.

In: benchmarks and the root. Out: for each either where its data are, or in one line what is missing and how to get it.
Nothing is downloaded. A root may be laid out by `hf download --local-dir ROOT/ORG/NAME`, or be a hub cache (`HF_HOME`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jigsaw.data.progress import progress_bar
from jigsaw.errors import JigsawError
from jigsaw.suites.loading import load_items
from jigsaw.suites.suites import Benchmark

TABLES = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".arrow")


@dataclass(frozen=True)
class Ready:
    """A benchmark that can run: rows for our own definitions, else the folder of the data set."""

    benchmark: Benchmark
    rows: Sequence[Mapping[str, Any]] = ()
    folder: Path | None = None


def look(benchmarks: Sequence[Benchmark], root: Path) -> tuple[list[Ready], dict[str, str]]:
    """Which benchmarks can run, and for the others what they lack, by name.

    Raises:
        JigsawError: the root is no folder.
    """
    if not root.is_dir():
        raise JigsawError(
            f"--data-root: {root} is no folder; fetch the benchmarks into one (docs/evaluation.md says how)"
        )
    ready, missing = [], {}
    with progress_bar("looking for benchmarks", len(benchmarks)) as bar:
        for benchmark in benchmarks:
            try:
                ready.append(_own(benchmark, root) if benchmark.own else _foreign(benchmark, root))
            except JigsawError as error:
                missing[benchmark.name] = str(error)
            bar.advance()
    return ready, missing


def _own(benchmark: Benchmark, root: Path) -> Ready:
    return Ready(benchmark, rows=load_items(benchmark.task, root))


def _foreign(benchmark: Benchmark, root: Path) -> Ready:
    folder = repo_folder(benchmark.repo, root)
    if benchmark.media and not _holds_files(root / benchmark.media):
        raise JigsawError(f"{root / benchmark.media} holds no videos; unpack those of {benchmark.repo} there")
    return Ready(benchmark, folder=folder)


def repo_folder(repo: str, root: Path) -> Path:
    """Where a data set of the hub lies below the root, whole.

    Raises:
        JigsawError: it is not there, or was not downloaded to its end.
    """
    plain, cached = root / repo, root / "hub" / f"datasets--{repo.replace('/', '--')}"
    folder = plain if plain.is_dir() else _snapshot(cached)
    if folder is None:
        raise JigsawError(
            f"{plain} is missing; fetch it with: hf download --repo-type dataset {repo} --local-dir {plain}"
        )
    started = [*(cached / "blobs").glob("*.incomplete"), *(plain / ".cache").rglob("*.incomplete")]
    broken = [path for path in folder.rglob("*") if path.is_symlink() and not path.exists()]
    if started or broken:
        raise JigsawError(f"{folder} is only half downloaded ({(started or broken)[0].name}); run hf download again")
    if not any(path.suffix in TABLES and ".cache" not in path.parts for path in folder.rglob("*") if path.is_file()):
        raise JigsawError(f"{folder} holds no tables of rows; run hf download again")
    return folder


def _snapshot(cached: Path) -> Path | None:
    """The snapshot of a hub cache that `main` names, else its only one."""
    reference = cached / "refs" / "main"
    found = sorted((cached / "snapshots").glob("*"))
    if reference.is_file():
        found = [path for path in found if path.name == reference.read_text().strip()] or found
    return found[-1] if found else None


def _holds_files(folder: Path) -> bool:
    return folder.is_dir() and any(path.is_file() for path in folder.rglob("*"))
