"""The contract of tasks: built-in tasks and the example fulfil it, and broken properties are detected and named."""

import json
import sys
from pathlib import Path

import pytest

from jigsaw.cli import command as cli
from jigsaw.tasks import TaskError
from jigsaw.testing import ContractError, assert_task, check_task, task_contract

ROOT = Path(__file__).parents[2]
ZOOM = ROOT / "examples" / "task_plugin" / "jigsaw_zoom.py"
IN_WORKERS = "worker processes build, load and check a set"


@pytest.fixture
def without_workers(monkeypatch):
    """Skips the property that starts processes."""
    others = {name: check for name, check in task_contract._PROPERTIES.items() if name != IN_WORKERS}
    monkeypatch.setattr(task_contract, "_PROPERTIES", others)


@pytest.mark.parametrize("name", ["image", "video", "depth", f"{ZOOM}:ZoomTask"])
def test_built_in_tasks_and_the_example_fulfil_the_contract(name):
    config = {"side": 56} if name.endswith("ZoomTask") else {}
    assert [finding for finding in check_task(name, **config) if finding.ok is not True] == []


OTHER_CONFIGURATIONS = [
    ("image", {"layout": "composite", "grid": "2x2", "answer_style": "direct"}),
    ("image", {"crop": "random", "augment": True, "flat": "classes", "grid": "2x3", "answer_style": "boxed"}),
    ("video", {"shown_as": "images", "clips": 3}),
    ("video", {"grid": "1x2", "clips": 2, "identity": False}),
    ("depth", {"points": 3, "max_side": 200, "identity": False}),
]


@pytest.mark.parametrize(("name", "config"), OTHER_CONFIGURATIONS)
def test_built_in_tasks_fulfil_the_contract_in_other_configurations(without_workers, name, config):
    assert_task(name, **config)


BROKEN = {
    "it describes itself": [
        ('    """Order views of a photo from the widest to the closest."""\n', ""),
        "has no docstring",
    ],
    "its configuration is frozen": [
        ("@dataclass(frozen=True, kw_only=True)", "@dataclass(kw_only=True)"),
        "not a frozen",
    ],
    "it makes puzzles": [('Reject("too_small"', 'Reject("tiny"'), "'tiny' is not in REASONS"],
    "the same source and random state": [
        ("round(rng.random(), 4), round", "round(SystemRandom().random(), 4), round"),
        "use only `rng`",
    ],
    "other random states": [
        ("shown = draw_shown(self.config.views, rng)", "shown = (1, 0, 2, 3)"),
        "have the same answer",
    ],
    "puzzles are small": [('"centre": centre,', '"centre": centre, "raw": photo.tobytes().hex(),'), "store no pixels"],
    "answers follow": [("answer=answer_of(shown)", "answer=tuple(i + 1 for i in shown)"), "use tasks.answer_of"],
    "prompts are messages": [('{"type": "image"}', '{"type": "image", "text": ""}'), "a part must be"],
    "prompts do not contain": [
        ('parts += [f"View', 'parts += [str(puzzle.answer)[1:-1], f"View'),
        "contain the answer",
    ],
    "media are valid": [
        ("range(1, puzzle.num_pieces + 1)", "range(1, puzzle.num_pieces)"),
        "3 image placeholders for 4",
    ],
    "a stored puzzle renders": [
        (
            'photo = read_photo(source.files["image"])\n        return',
            'photo = read_photo(source.files["image"]).rotate(SystemRandom().random())\n        return',
        ),
        "pixels differ",
    ],
    "damaged files": [("return Reject(error.reason, str(error))", "raise"), "PhotoError"],
}


@pytest.mark.parametrize("prefix", BROKEN)
def test_every_broken_property_is_detected(without_workers, tmp_path, prefix):
    (old, new), message = BROKEN[prefix]
    body = ZOOM.read_text()
    assert old in body
    file = tmp_path / "broken.py"
    file.write_text(
        body.replace(old, new).replace("from random import Random", "from random import Random, SystemRandom")
    )
    side = 400 if "tiny" in new else 56
    broken = [finding for finding in check_task(f"{file}:ZoomTask", side=side) if finding.ok is False]
    assert any(finding.name.startswith(prefix) and message in finding.detail for finding in broken), broken


def test_unsuitable_sources_are_an_error_with_the_remedy(without_workers):
    with pytest.raises(ContractError, match=r"all sources are rejected \(too_small: .*--source"):
        assert_task(f"{ZOOM}:ZoomTask", side=1000)


def test_a_task_that_does_not_work_in_worker_processes_is_detected(tmp_path):
    """Worker processes import the file again, without the modules that the main process has imported."""
    file = tmp_path / "main_process_only.py"
    file.write_text(
        ZOOM.read_text().replace(
            '        """The views in shown order."""', "        import sys\n\n        assert 'pytest' in sys.modules"
        )
    )
    (broken,) = [finding for finding in check_task(f"{file}:ZoomTask", side=56) if finding.ok is False]
    assert broken.name == IN_WORKERS


def test_an_unknown_task_is_refused():
    with pytest.raises(TaskError, match="did you mean image"):
        check_task("imag")


def test_the_command_prints_the_properties_and_fails_if_one_is_broken(without_workers, tmp_path, monkeypatch, capsys):
    file = tmp_path / "broken.py"
    file.write_text(ZOOM.read_text().replace("answer=answer_of(shown)", "answer=tuple(i + 1 for i in shown)"))

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["jigsaw", "tasks", "check", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capsys.readouterr().out

    code, out = run(f"{ZOOM}:ZoomTask", "side=56", "--json")
    assert code == 0
    assert json.loads(out)["ok"] is True
    code, out = run(f"{file}:ZoomTask", "side=56")
    assert code == 1
    assert "1 of 14 properties do not hold" in out
