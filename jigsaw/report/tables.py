"""Tables of a report: reads the folders that commands wrote.

In: folders of `jigsaw launch`, `eval`, `bench`, `realunify` and `generalize`. Out: a `PaperTable` per kind of folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jigsaw.errors import JigsawError
from jigsaw.evaluation.generalization import FILE as GENERALIZATION_FILE
from jigsaw.evaluation.generalization import Generalization, generalization_table
from jigsaw.evaluation.tables import puzzle_table
from jigsaw.realunify.log import REALUNIFY_FILE, realunify_table
from jigsaw.report.runs import read_runs
from jigsaw.results.log_file import from_json
from jigsaw.results.tables import PaperTable
from jigsaw.run_folder import RunFolder
from jigsaw.suites.log import SUITE_FILE, read_suite, suite_table


def paper_tables(folders: Sequence[Path]) -> list[PaperTable]:
    """The tables of folders, in the order of their kinds.

    Raises:
        JigsawError: a folder has no evaluation.
    """
    runs = read_runs(own) if (own := run_folders(folders)) else []
    for run in runs:
        if run.log is None:
            raise JigsawError(run.notes[0] if run.notes else f"{run.folder} has not been evaluated yet")
    logs = {run.label: (str(RunFolder(run.folder).evaluation), run.log) for run in runs if run.log is not None}
    return [*([puzzle_table(logs)] if logs else []), *other_tables(folders)]


def run_folders(folders: Sequence[Path]) -> list[Path]:
    """The folders of runs and of evaluations on puzzles."""
    others = (SUITE_FILE, REALUNIFY_FILE, GENERALIZATION_FILE)
    return [folder for folder in folders if not any((folder / name).is_file() for name in others)]


def other_tables(folders: Sequence[Path]) -> list[PaperTable]:
    """The tables of suites, of RealUnify and of generalisations, also those inside run folders."""
    by_suite: dict[str, list[Path]] = {}
    for folder in folders:
        if (folder / SUITE_FILE).is_file():
            by_suite.setdefault(read_suite(folder).suite, []).append(folder)
    tables = [realunify_table(folder) for folder in folders if (folder / REALUNIFY_FILE).is_file()]
    tables += [suite_table(name, own) for name, own in by_suite.items()]
    for folder in folders:
        for path in (folder / GENERALIZATION_FILE, folder / "generalization" / GENERALIZATION_FILE):
            if path.is_file():
                report = from_json(Generalization, path, "run `jigsaw generalize` again")
                tables.append(generalization_table(report, path))
    return tables
