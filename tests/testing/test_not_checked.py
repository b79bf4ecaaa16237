"""Contract checks of plug-ins: properties that could not be checked, and errors with file, line and method."""

import json
import sys

import pytest

from jigsaw.cli import command as cli
from jigsaw.rewards import RewardError, check_reward, get_reward
from jigsaw.tasks import TaskError, get_task
from jigsaw.testing import ContractError, assert_reward, assert_task, check_task
from jigsaw.testing import check_reward as check

REWARDS = '''
def needs_col(completions, solution):
    """Length of the solution."""
    return [float(len(text)) for text in solution]

def positional(completions, limit=300, **columns):
    """Shorter than the limit."""
    return [float(len(text) < limit) for text in completions]
'''

TASK = '''
"""Strips of a photo."""
from dataclasses import dataclass
from typing import Annotated
from pydantic import Field
from jigsaw.tasks import Media, Puzzle, Reject, Task, answer_of, draw_shown, read_photo, PhotoError

@dataclass(frozen=True, kw_only=True)
class Config:
    strips: Annotated[int, Field(description="number of strips")] = 3

class Strips(Task):
    """Put strips of a photo in order."""
    name = "strips"
    source_kind = "image"
    Config = Config
    REASONS = {"unreadable": "no photo"}

    def plan(self, source, rng):
        try:
            read_photo(source.files["image"])
        except PhotoError as error:
            return Reject("unreadable", str(error))
        shown = draw_shown(self.config.strips, rng)
        return Puzzle("strips", answer_of(shown), GEOMETRY)

    def render(self, puzzle, source):
        photo = read_photo(source.files["image"])
        width = photo.width // puzzle.num_pieces
        return Media([photo.crop((width * i, 0, width * i + width, photo.height)) for i in ORDER])

    def prompt(self, puzzle):
        parts = [{"type": "image"} for _ in range(puzzle.num_pieces)]
        return [{"role": "user", "content": [*parts, {"type": "text", "text": "In order?"}]}]
'''
CORRECT = {"GEOMETRY": '{"shown": list(shown)}', "ORDER": 'puzzle.geometry["shown"]'}


@pytest.fixture
def rewards(tmp_path):
    (tmp_path / "mine.py").write_text(REWARDS)
    return tmp_path / "mine.py"


@pytest.fixture
def strips(tmp_path):
    """Returns a function that writes the task with some expressions replaced."""

    def write(**changes):
        text = TASK
        for name, value in (CORRECT | changes).items():
            text = text.replace(name, value)
        (tmp_path / "strips.py").write_text(text)
        return f"{tmp_path / 'strips.py'}:Strips"

    return write


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command; returns exit code and output."""

    def run(*words):
        monkeypatch.setenv("COLUMNS", "250")
        monkeypatch.setattr(sys, "argv", ["jigsaw", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, "".join(capsys.readouterr())

    return run


def test_a_reward_with_an_unknown_column_is_not_checked_and_the_column_is_named(rewards, command):
    code, out = command("rewards", "check", f"{rewards}:needs_col")
    assert code == 1
    assert "no puzzle has a column `solution` (did you mean answer?)" in out
    assert out.rstrip().endswith("needs_col: not checked (6 of 6 properties)")
    assert "keeps its contract" not in out
    code, out = command("rewards", "check", f"{rewards}:needs_col", "--json")
    assert code == 1
    assert json.loads(out)["ok"] is False
    with pytest.raises(ContractError, match="not checked: no puzzle has a column `solution`"):
        assert_reward(f"{rewards}:needs_col")


def test_a_reward_with_an_unknown_column_is_checked_if_the_column_has_a_value(rewards, command):
    code, out = command("rewards", "check", f"{rewards}:needs_col", "--column", "solution=abc")
    assert (code, "keeps its contract" in out) == (0, True), out


@pytest.mark.parametrize("name", ["ground_truth", "label", "anser", "prompt", "image"])
def test_column_names_of_other_projects_are_refused_with_the_nearest_one(tmp_path, name):
    (tmp_path / "r.py").write_text(f"def reward(completions, {name}):\n    return [0.0 for _ in completions]\n")
    expected = {"prompt": "prompts", "image": "source"}.get(name, "answer")
    assert f"did you mean {expected}?" in check(f"{tmp_path / 'r.py'}:reward")[0].detail


def test_an_option_that_is_not_keyword_only_is_refused_with_the_remedy(rewards, command):
    with pytest.raises(RewardError, match=r"put `\*` before limit=300"):
        get_reward(f"{rewards}:positional", limit=5)
    code, out = command("rewards", "check", f"{rewards}:positional")
    assert code == 1
    assert "put `*` before limit" in out


def test_a_task_whose_media_do_not_depend_on_the_order_breaks_its_contract(strips):
    """Given a `render` that ignores the order, this is detected with and without `shown` in the geometry."""
    broken = {"ORDER": "range(puzzle.num_pieces)"}
    for changes in (broken, broken | {"GEOMETRY": "{}"}):
        with pytest.raises(ContractError, match="render must depend on the answer"):
            assert_task(strips(**changes))


def test_answers_that_cannot_be_compared_with_the_geometry_are_not_checked(strips, command):
    correct = {"GEOMETRY": '{"order": list(shown)}', "ORDER": 'puzzle.geometry["order"]'}
    code, out = command("tasks", "check", strips(**correct))
    assert code == 1
    assert "not checked (1 of 15 properties)" in out
    assert "store `shown`" in out


def test_an_error_of_a_task_is_reported_once_with_file_line_and_method(strips):
    findings = check_task(strips(GEOMETRY="{'shown': sorted(shown, key=None) < 3}"))
    line = next(at for at, text in enumerate(TASK.splitlines(), 1) if "GEOMETRY" in text)
    message = f"strips.py:{line} in plan: TypeError: '<' not supported between instances of 'list' and 'int'"
    broken = [finding for finding in findings if finding.ok is False]
    assert [finding.detail for finding in broken] == [message]
    assert all("the same error again" in finding.detail for finding in findings if not finding.checked)
    assert len(findings) == 15


def test_a_wrong_class_name_and_an_import_error_are_reported_with_the_remedy(strips, tmp_path):
    spec = strips()
    with pytest.raises(TaskError, match="has no 'Strip'; did you mean Strips"):
        get_task(spec[:-1])
    (tmp_path / "broken.py").write_text("import os\n\nvalue = undefined\n")
    with pytest.raises(TaskError, match=r"broken\.py:3 with NameError: name 'undefined' is not defined"):
        get_task(f"{tmp_path / 'broken.py'}:Task")
    (tmp_path / "syntax.py").write_text("x = 1\ny = (\n")
    with pytest.raises(TaskError, match=r"syntax\.py:2 with SyntaxError"):
        get_task(f"{tmp_path / 'syntax.py'}:Task")
    with pytest.raises(RewardError, match=r"broken\.py:3"):
        check_reward(f"{tmp_path / 'broken.py'}:reward")
