"""Puzzle sets: building, importing, checking, previewing and loading them.

The sub-packages, each of which imports only those above it::

    storage      the stored set: settings, manifest, Parquet parts, media columns, ids and hashes
    sources      lists the items of a folder, list, tar or table, and opens one of them
    building     `jigsaw build`: listing, planning, worker processes, writing
    importing    `jigsaw import`: puzzle sets and question sets of other projects
    loading      sets and conversations as `datasets.Dataset`
    inspection   `jigsaw check`, `jigsaw preview`, and the checks of a set before training

The public API::

    build_puzzles(task, source, out, *, config=None, per_source=1, limit=None, seed=0, workers=None, parts=None,
                  shard=(0, 1), split=None, heldout=0.2, materialize=False, time_limit=120.0, progress=True) ->
                  BuildSummary
        task: "image" or a spec; config: {"grid": "2x2", ...} (strings or typed values); limit: number of sources;
        split: "train" | "heldout" | None (sub-folders train/ and heldout/ where both exist, else by content hash).
        BuildSummary has path, counts (sources, puzzles, rejects by reason), parts_built, parts_skipped, to_json().
        With the same settings a complete folder returns at once, and an interrupted build is continued. With other
        settings: JigsawError.
    build_set(BuildConfig.of(task, config, ...), source, out, *, workers=None, ...) -> BuildSummary
        the same with one typed object, which recipes use.
    load_puzzles(path, source_root=None, *, task=None) -> datasets.Dataset
        rows: prompt, images | videos, answer, task, id, num_pieces, answer_style, classes, source, geometry (dict).
        `datasets.concatenate_datasets` keeps the transform. task: spec of the plug-in task of the set, if it is one.
    read_manifest(path) -> Manifest
        .settings (task, spec, config, seed, per_source, limit, split, ...), .counts, .complete, .source_root,
        .versions, .to_json()

    check_puzzles(path, source_root=None, *, task=None, workers=None, time_limit=120.0, progress=True) -> CheckReport
        .ok, .rows, .sources, .copies, .num_faults, .faults (each is printed as one line), .to_json()
    preview_puzzles(paths, out="preview.html", *, count=24, source_root=None, task=None) -> Path
        paths: one set or several; count: puzzles of each.
    import_puzzles("visual-jigsaw", path, out, *, media_root=None, only=None, seed=0, workers=None, ...) -> BuildSummary
        only: name of the task whose rows are read, if the files mix tasks.
    import_questions(path, out, *, layout="plain", media_root=None, kind=None, answer_style="auto", limit=None, ...)
        questions with verifiable answers, as a set that can be mixed with puzzles in training.

All raise `jigsaw.errors.JigsawError` with a message of one line.
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
