"""Puzzle sets: building, importing, checking, previewing and loading them.

The sub-packages, each of which imports only those above it::

    storage      the stored set: settings, manifest, Parquet parts, media columns, ids and hashes
    sources      lists the items of a folder, list, tar or table, and opens one of them
    building     `jigsaw build`: listing, planning, worker processes, writing
    importing    `jigsaw import`: puzzle sets and question sets of other projects
    loading      sets and conversations as `datasets.Dataset`
    inspection   `jigsaw check`, `jigsaw preview`, and the checks of a set before training

The public API, whose functions raise `jigsaw.errors.JigsawError` with a message of one line::

    build_puzzles, build_set      build a set, or continue an interrupted build; BuildConfig, BuildSummary
    import_puzzles                a set in the format of the paper's authors
    import_questions              questions with verifiable answers, to be mixed with puzzles in training
    load_puzzles                  a `datasets.Dataset` that renders a row when it is read
    read_manifest                 settings, counts and versions of a set: Manifest, Settings, Counts
    check_puzzles                 compare a set with its sources: CheckReport, Fault
    preview_puzzles               an HTML page of puzzles
    REASONS                       why a source gives no puzzle
"""

from jigsaw.data.building.build import REASONS, BuildSummary, build_puzzles, build_set
from jigsaw.data.importing.questions import import_questions
from jigsaw.data.importing.visual_jigsaw import import_puzzles
from jigsaw.data.inspection.check import CheckReport, Fault, check_puzzles
from jigsaw.data.inspection.preview import preview_puzzles
from jigsaw.data.loading.load import load_puzzles
from jigsaw.data.storage.manifest import Counts, Manifest, read_manifest
from jigsaw.data.storage.settings import BuildConfig, Settings

__all__ = [
    "REASONS",
    "BuildConfig",
    "BuildSummary",
    "CheckReport",
    "Counts",
    "Fault",
    "Manifest",
    "Settings",
    "build_puzzles",
    "build_set",
    "check_puzzles",
    "import_puzzles",
    "import_questions",
    "load_puzzles",
    "preview_puzzles",
    "read_manifest",
]
