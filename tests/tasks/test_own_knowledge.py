"""A task is defined in its own file: the framework names no task, and all commands work with third-party tasks."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from PIL import Image
from synthetic_media import encode, photo_pixels, source_of

from jigsaw.answering.answers import contrast
from jigsaw.audit import audit_puzzles
from jigsaw.data import build_puzzles, load_puzzles, preview_puzzles
from jigsaw.data.loading.load import pieces_of
from jigsaw.errors import JigsawError
from jigsaw.evaluation import evaluate
from jigsaw.evaluation.evaluate import with_prompt_variant
from jigsaw.evaluation.generalization import generalize
from jigsaw.rewards import format_order
from jigsaw.tasks import Puzzle, get_task, task_named, task_names
from jigsaw.testing import assert_task

ROOT = Path(__file__).parents[2]
ZOOM_FILE = ROOT / "examples" / "task_plugin" / "jigsaw_zoom.py"
ZOOM = f"{ZOOM_FILE}:ZoomTask"

KINDS = {"image", "video", "rgbd"}
"""Kinds of sources and media. Two of them are also names of tasks, so these strings are not counted."""

ELSEWHERE = {
    "jigsaw/suites": "names of the paper's benchmark tables, which equal those of the tasks",
    "jigsaw/samples": "contents of a sample folder and a camera file",
    "jigsaw/data/sources/depth_pairs.py": "words in the names of depth maps",
    "jigsaw/data/sources/posed_scenes.py": "folders of a scene",
    "jigsaw/data/sources/opening.py": "roles of the files of an RGB-D pair",
    "jigsaw/data/sources/scanning.py": "roles of the files of an RGB-D pair",
    "jigsaw/data/sources/paths.py": "kinds of the items of a pair",
    "jigsaw/data/sources/tables.py": "columns of third-party tables",
    "jigsaw/testing/synthetic_sources.py": "folders of synthetic RGB-D pairs",
    "jigsaw/models": "media of a prompt",
    "jigsaw/realunify": "columns of a benchmark",
}


def _strings(tree):
    """The constants of a file, without docstrings."""
    docs = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and node not in docs]


def _files():
    for file in sorted((ROOT / "jigsaw").rglob("*.py")):  # rglob does not follow the links to tasks/ and rewards/
        name = str(file.relative_to(ROOT))
        if not any(name.startswith(allowed) for allowed in ELSEWHERE):
            yield name, ast.parse(file.read_text(encoding="utf-8"))


def test_no_file_of_the_framework_names_a_task():
    names = set(task_names()) - KINDS
    assert names >= {"depth"}
    places = [f"{file}:{node.lineno}" for file, tree in _files() for node in _strings(tree) if node.value in names]
    assert places == []


def test_no_file_of_the_framework_compares_the_name_of_a_task():
    """Comparisons such as `row["task"] == ...` and `task.name in ...`, and lookups of a constant name."""
    places = []
    for file, tree in _files():
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare):
                sides = [ast.unparse(side) for side in (node.left, *node.comparators)]
                names_task = any(side.endswith(("['task']", "task.name", "settings.task", ".task")) for side in sides)
                constants = [side for side in (node.left, *node.comparators) if isinstance(side, ast.Constant)]
                if names_task and any(isinstance(side.value, str) and side.value for side in constants):
                    places.append(f"{file}:{node.lineno}: {ast.unparse(node)}")
            called = isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2]
            if called in ("get_task", "find_task", "task_named") and isinstance(node.args[0], ast.Constant):
                places.append(f"{file}:{node.lineno}: {ast.unparse(node)}")
    assert places == []


# --- a plug-in that has only the three required methods


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """A set of 24 puzzles of the example package."""
    root = tmp_path_factory.mktemp("views")
    (root / "photos").mkdir()
    for number in range(12):
        Image.fromarray(photo_pixels(200, 160, seed=number)).save(root / "photos" / f"{number}.png")
    config = {"side": 28, "views": 3, "answer_style": "direct"}
    build_puzzles(ZOOM, root / "photos", root / "set", config=config, per_source=2, workers=1, progress=False)
    return root / "set"


def test_a_plug_in_is_audited(views):
    report = audit_puzzles(views, task=ZOOM)
    (group,) = report.groups
    assert (group.task, group.num_pieces, group.num_puzzles) == ("zoom", 3, 24)
    names = {finding.name for finding in group.findings}
    assert names >= {"constant", "edges", "brightness and colour", "detail", "compression"}
    assert all(finding.remedy for finding in group.findings if finding.leak or finding.here)


def test_the_pieces_of_a_plug_in_are_previewed(views, tmp_path):
    page = preview_puzzles(views, tmp_path / "page.html", count=2, task=ZOOM).read_text()
    assert page.count('alt="Piece 3"') == 2 and page.count('alt="Place 3"') == 2


def test_a_plug_in_has_pieces_and_a_difficulty(views):
    row = load_puzzles(views, task=ZOOM)[0]
    assert [frames.shape for frames in pieces_of(row).frames] == [(1, 28, 28, 3)] * 3
    assert contrast(row) > 0


def test_a_prompt_variant_of_a_plug_in_without_variants_is_refused(views):
    row = load_puzzles(views, task=ZOOM)[0]
    with pytest.raises(JigsawError, match="--set prompt_variant: task zoom has no prompt variants"):
        with_prompt_variant(row, 1)


@pytest.fixture
def zoom_run(views, tmp_path, monkeypatch):
    """A run on puzzles of the example package and the new path of the package's file, which was moved after the run.

    The model of the run answers every puzzle correctly.
    """
    run, file = tmp_path / "run", tmp_path / "zoom.py"
    (run / "model").mkdir(parents=True)
    (run / "model" / "config.json").write_text("{}")
    shutil.copy(ZOOM_FILE, file)
    config = {"side": 28, "views": 3, "answer_style": "direct"}
    for split in ("train", "heldout"):
        options = {"config": config, "split": split, "heldout": 0.5, "workers": 1, "progress": False}
        build_puzzles(f"{file}:ZoomTask", views.parent / "photos", run / split, **options)
    (run / "data.json").write_text(json.dumps({"train": [str(run / "train")], "eval": [str(run / "heldout")]}))

    def answer(rows):
        return [[format_order(list(row["answer"]), "direct")] for row in rows]

    monkeypatch.setattr(evaluate, "open_engine", lambda *_, **__: answer)
    return run, f"{file.rename(tmp_path / 'moved.py')}:ZoomTask"


def test_generalization_is_measured_for_a_plug_in(zoom_run, tmp_path):
    """A task without size key and prompt variants has only the conditions seen and unseen."""
    run, spec = zoom_run
    result = generalize(run, out=tmp_path / "g", puzzles=4, task=spec)
    assert result.task == "zoom" and result.shared_sources == 0
    solved = {name: entry.estimates["exact"].value for name, entry in result.conditions.items()}
    assert solved == {"seen": 1.0, "unseen": 1.0}


def test_a_report_shows_the_pictures_of_a_plug_in(zoom_run, tmp_path):
    """The pages are written by a process that has not loaded the plug-in, like `jigsaw report`."""
    run, spec = zoom_run
    evaluate.evaluate_checkpoint(str(run / "model"), run / "heldout", task=spec, out=tmp_path / "eval", limit=4)
    code = f"""
from pathlib import Path
from jigsaw.report import write_report
folder = Path({str(tmp_path)!r})
write_report([folder / "eval"], folder / "named.html", tasks=[{spec!r}])
write_report([folder / "eval"], folder / "plain.html")
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    named, plain = ((tmp_path / page).read_text() for page in ("named.html", "plain.html"))
    assert "cannot be" not in named and named.count("data:image/jpeg") >= 3 * 4
    assert "name it again to run its code: --task" in plain and "data:image/jpeg" not in plain


DECLARED = '''
import sys
sys.path.insert(0, {folder!r})
from jigsaw_zoom import ZoomTask
from jigsaw.tasks import PromptVariant


class Named(ZoomTask):
    """Order views, with all that a task may declare."""

    name = "named"
    PIECE = "view"
    SIZE = ("views", ("2", "3"))
    VARIANTS = (PromptVariant("{{count}} looks at one thing.", "Look {{number}}", "Which is from farthest away?"),)
    REMEDIES = {{"edges": "step=0.5 leaves less in common"}}

    def notes(self, puzzle):
        return [f"{{puzzle.num_pieces}} views of one place."]

    def difficulty(self, puzzle, pieces):
        return 1.5
'''


@pytest.fixture(scope="module")
def declared(tmp_path_factory):
    file = tmp_path_factory.mktemp("declared") / "named.py"
    file.write_text(DECLARED.format(folder=str(ZOOM_FILE.parent)))
    return f"{file}:Named"


def test_the_declarations_of_a_plug_in_are_used(declared, views, tmp_path):
    config = {"side": 28, "views": 3, "answer_style": "direct"}
    build_puzzles(declared, views.parent / "photos", tmp_path / "set", config=config, workers=1, progress=False)
    page = preview_puzzles(tmp_path / "set", tmp_path / "page.html", count=1, task=declared).read_text()
    assert 'alt="View 3"' in page and "3 views of one place." in page
    row = load_puzzles(tmp_path / "set", task=declared)[0]
    assert contrast(row) == 1.5
    other = with_prompt_variant(row, 1)
    texts = [part["text"] for part in other["prompt"][0]["content"] if part["type"] == "text"]
    assert texts[:3] == ["3 looks at one thing.", "Look 1", "Look 2"]
    assert texts[-1].startswith("Which is from farthest away? Answer with the 3 numbers only")
    assert_task(declared, side=56)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('SIZE = ("views", ("2", "99"))', "SIZE offers views=99, which the task refuses"),
        ('SIZE = ("view", ("2",))', "SIZE offers view=2, which the task refuses"),
        ('REMEDIES = {"glue": "none"}', "REMEDIES has glue; the leaks are order, edges"),
        ('VARIANTS = (PromptVariant("{piece} pieces", "", ""),)', "has a placeholder other than {count}"),
        ("def difficulty(self, puzzle, pieces): return float('nan')", "difficulty is nan"),
        (
            "def pieces(self, puzzle, media): return Pieces(points=[(1.0, 2.0)])",
            "pieces returned 1 points for 4 pieces",
        ),
    ],
)
def test_the_contract_names_wrong_declarations_of_a_plug_in(tmp_path, line, message):
    body = f"""
from jigsaw.tasks import Pieces, PromptVariant
from jigsaw.tasks.image import ImageTask


class Mine(ImageTask):
    \"\"\"Tiles.\"\"\"

    name = "mine"
    SIZE = None
    {line.replace('"views"', '"grid"').replace('"99"', '"9x9"').replace('"2"', '"2x2"')}
"""
    (tmp_path / "mine.py").write_text(body)
    with pytest.raises(AssertionError) as error:
        assert_task(f"{tmp_path / 'mine.py'}:Mine", grid="2x2")
    assert message.replace("views=99", "grid=9x9").replace("view=2", "view=2x2") in str(error.value)


# --- built-in tasks


def test_the_pieces_of_a_depth_puzzle_are_points_on_the_picture():
    source = source_of(encode(Image.fromarray(photo_pixels(200, 100))), role="color")
    task = task_named("depth")
    options = {"points": [[10.0, 20.0], [50.0, 150.0], [90.0, 60.0]]}
    puzzle = task.adopt(source, Random(1), options, "think")
    assert isinstance(puzzle, Puzzle)
    pieces = task.pieces(puzzle, task.render(puzzle, source))
    in_order = [pieces.points[index - 1] for index in puzzle.answer]
    assert in_order == [(20, 10), (150, 50), (60, 90)]
    assert not pieces.frames and pieces.picture.shape == (100, 200, 3)
    assert task.difficulty(puzzle, pieces) is None and task.notes(puzzle) == []


def test_the_difficulty_of_points_is_their_smallest_relative_step_in_depth():
    geometry = {"points": [[1, 1]] * 3, "depths": [1.0, 2.0, 2.5], "shown": [0, 1, 2]}
    puzzle = Puzzle("depth", (1, 2, 3), geometry)
    assert task_named("depth").difficulty(puzzle, None) == pytest.approx(0.2)
    assert task_named("depth").notes(puzzle) == [
        "Nearest first: point 1 at 1.00 m, point 2 at 2.00 m, point 3 at 2.50 m"
    ]


def test_the_difficulty_of_tiles_is_their_mean_distance_to_the_most_similar_tile():
    flat = [Image.new("RGB", (20, 20), (level,) * 3) for level in (0, 10, 100)]
    task, puzzle = task_named("image"), Puzzle("image", (1, 2, 3), {"grid": [1, 3]})
    media = type("Media", (), {"images": flat, "videos": ()})
    assert task.difficulty(puzzle, task.pieces(puzzle, media)) == pytest.approx((10 + 10 + 90) / 3)
    sheet = type("Media", (), {"images": flat[:1], "videos": ()})
    assert task.difficulty(puzzle, task.pieces(puzzle, sheet)) is None, "a single sheet has no separate pieces"


@pytest.mark.parametrize("grid", ["2x2", "22", [2], [2.0, 2.0], [-2, -2], 4, [2, 3], None])
def test_a_grid_that_does_not_match_the_number_of_pieces_is_ignored(grid):
    puzzle = Puzzle("theirs", (2, 1, 4, 3), {"grid": grid, "depths": [1]})
    assert puzzle.grid is None
    assert Puzzle("theirs", (2, 1, 4, 3), {"grid": [2, 2]}).grid == (2, 2)


def test_a_plug_in_of_a_file_can_be_named_after_it_was_loaded(tmp_path):
    shutil.copy(ZOOM_FILE, tmp_path / "other.py")
    text = (tmp_path / "other.py").read_text().replace('"zoom"', '"zoom_by_name"')
    (tmp_path / "other.py").write_text(text)
    with pytest.raises(ValueError, match="no task is called 'zoom_by_name'"):
        task_named("zoom_by_name")
    get_task(f"{tmp_path / 'other.py'}:ZoomTask")
    assert task_named("zoom_by_name").PIECE == "piece"
