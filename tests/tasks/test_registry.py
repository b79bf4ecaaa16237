"""Lookup of tasks by name, module or file, their configurations, and the errors for wrong names and values."""

import dataclasses
import importlib.metadata

import pytest

from jigsaw.tasks import TaskError, absolute_spec, canonical_config, describe_task, find_task, get_task, task_names
from jigsaw.tasks.image import ImageConfig, ImageTask

PLUGIN = '''
from dataclasses import dataclass
from typing import ClassVar
from jigsaw.tasks import Media, Puzzle, Task, user_message

@dataclass(frozen=True, kw_only=True)
class Config:
    pieces: int = 3

class Backwards(Task):
    """Say what is shown backwards."""
    name: ClassVar[str] = "backwards"
    source_kind: ClassVar[str] = "image"
    Config: ClassVar[type] = Config
    def plan(self, source, rng):
        return Puzzle(task=self.name, answer=tuple(range(self.config.pieces, 0, -1)), geometry={})
    def render(self, puzzle, source):
        return Media()
    def prompt(self, puzzle):
        return user_message(["Go"])

not_a_task = 3
'''


@pytest.fixture
def plugin(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    return file


def test_a_task_is_found_by_name_module_or_file(plugin):
    assert type(get_task("image")) is ImageTask is find_task("jigsaw.tasks.image:ImageTask")
    assert "image" in task_names()
    task = get_task(f"{plugin}:Backwards", pieces="4")
    assert (task.name, task.config.pieces) == ("backwards", 4)
    assert find_task(f"{plugin}:Backwards") is type(task), "a file is loaded once"


def test_a_relative_path_of_a_file_becomes_absolute(plugin, monkeypatch):
    monkeypatch.chdir(plugin.parent)
    assert absolute_spec("mine.py:Backwards") == f"{plugin}:Backwards"
    assert absolute_spec("a.b:C") == "a.b:C"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("imag", "no task is called 'imag'; did you mean image"),
        ("zzz", "no task is called 'zzz'; known: camera_poses, depth, depth_regions, flip"),
        ("no_such_module:X", "importing failed at no_such_module:X with ModuleNotFoundError.*install the package"),
        ("jigsaw.tasks.image:Nothing", "has no 'Nothing'"),
        ("jigsaw.tasks.image:OVERVIEW_SIDE", "not a subclass"),
        ("missing.py:X", "there is no file missing.py"),
    ],
)
def test_an_unknown_task_is_refused_in_one_line(spec, message):
    with pytest.raises(TaskError, match=message) as error:
        get_task(spec)
    assert "\n" not in str(error.value)


def test_a_broken_plugin_is_refused(plugin, tmp_path):
    with pytest.raises(TaskError, match="not a subclass"):
        get_task(f"{plugin}:not_a_task")
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_that_name")
    with pytest.raises(TaskError, match="nothing_of_that_name"):
        get_task(f"{broken}:X")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"gird": "2x2"}, "no key 'gird'; did you mean grid"),
        ({"frobnicate": 1}, "its keys: grid, crop"),
        ({"grid": "9x9"}, "grid='9x9'.*such as 3x3"),
        ({"crop": "middle"}, "crop='middle'"),
        ({"crop_scale": 0}, "crop_scale=0"),
        ({"margin": "0.6"}, "margin='0.6'"),
        ({"tile": "large"}, "tile='large'"),
        ({"min_tile": 0}, "min_tile=0"),
        ({"identity": "perhaps"}, "identity='perhaps'"),
        ({"answer_style": "loud"}, "answer_style='loud'"),
        ({"flat_tolerance": "nan"}, "flat_tolerance='nan'"),
    ],
)
def test_the_error_for_a_wrong_option_names_key_value_and_remedy(config, message):
    with pytest.raises(TaskError, match=message) as error:
        get_task("image", **config)
    assert "\n" not in str(error.value)


def test_strings_are_converted_to_the_type_of_the_key():
    config = get_task("image", grid="2X3", tile="null", max_tile="96", identity="false", margin="0.05").config
    assert (config.grid, config.tile, config.max_tile, config.identity, config.margin) == ("2x3", None, 96, False, 0.05)


def test_equal_configurations_have_the_same_canonical_text():
    assert canonical_config(get_task("image")) == canonical_config(get_task("image", grid="3X3", margin="0"))
    assert canonical_config(get_task("image")) != canonical_config(get_task("image", grid="2x2"))


def test_a_configuration_is_frozen_and_validated():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ImageConfig().grid = "2x2"
    with pytest.raises(ValueError, match="such as 3x3"):
        ImageConfig(grid="nine")


@pytest.mark.parametrize("name", task_names())
def test_every_task_documents_its_keys_types_defaults_and_reasons(name):
    description = describe_task(name)
    assert description["doc"]
    assert description["reasons"]
    assert all(entry["doc"] and entry["type"] != "any" for entry in description["config"])
    assert {"key": "answer_style", "type": "think | direct | boxed", "default": "think"}.items() <= next(
        entry for entry in description["config"] if entry["key"] == "answer_style"
    ).items()


def test_the_installed_packages_are_read_once_for_many_lookups(monkeypatch):
    reads = []
    read = importlib.metadata.entry_points
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **group: reads.append(group) or read(**group))
    for _ in range(100):
        find_task("image")
    assert len(reads) <= 1


def test_a_task_installed_while_the_process_runs_is_found(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TaskError, match="no task is called 'late'"):
        find_task("late")
    info = tmp_path / "late-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: late\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[jigsaw.tasks]\nlate = jigsaw.tasks.image:ImageTask\n")
    assert find_task("late") is find_task("image")
