"""`make findings`: each arm and seed runs once, arms are compared, and verdicts follow from the intervals."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from jigsaw.config.loading import load_recipe
from jigsaw.data import load_puzzles
from jigsaw.errors import JigsawError

sys.path.append(str(Path(__file__).parents[2]))  # the experiments are not part of the package

from experiments import findings, synthetic_sources

PLAN = Path(__file__).parents[2] / "experiments" / "findings" / "findings.yaml"


def test_every_run_of_the_plan_is_a_valid_recipe(tmp_path):
    plan = yaml.safe_load(PLAN.read_text())
    assert len(plan["seeds"]) == 3
    recipes = {
        name: load_recipe(
            findings.launch_arguments(run, name, 0, PLAN.parent, tmp_path, [])[1],
            findings.launch_arguments(run, name, 0, PLAN.parent, tmp_path, [])[2:],
        )
        for name, run in plan["runs"].items()
    }
    assert recipes["nine-binary"].rewards[0]["args"] == {"discount": 0.0}
    assert recipes["four-rl"].model.path == f"{tmp_path}/seed-0/warm-up/model"
    for entry in plan["findings"]:
        first, second = entry["arms"]
        assert plan["runs"][first]["after"] == plan["runs"][second]["after"]
        for arm in entry["arms"]:
            builds = [part.build for part in recipes[arm].data.eval if part.build]
            assert entry["figure"]["task"] in {build.task for build in builds}
            grid = entry["figure"]["grid"]
            assert not grid or f"{grid[0]}x{grid[1]}" in {build.config.get("grid") for build in builds}


@pytest.mark.parametrize("name", ["tiny", "qwen2.5-vl-7b", "qwen3-vl-8b"])
def test_jigsaw_before_reasoning_has_three_arms_with_equally_many_steps(tmp_path, name):
    folder = PLAN.parents[1] / "reasoning"
    plan = yaml.safe_load((folder / f"{name}.yaml").read_text())
    commands = {
        run: findings.launch_arguments(entry, run, 0, folder, tmp_path, []) for run, entry in plan["runs"].items()
    }
    recipes = {run: load_recipe(arguments[1], arguments[2:]) for run, arguments in commands.items()}
    last = {"jigsaw-questions": "questions", "questions-jigsaw": "jigsaw"}
    for run, single in last.items():
        assert recipes[run].grpo.beta > 0 and recipes[single].grpo.beta == 0
        assert recipes[run].data.train == recipes[single].data.train
        steps = recipes[run].grpo.max_steps + recipes[plan["runs"][run]["after"]].grpo.max_steps
        assert steps == recipes["mixture"].grpo.max_steps
    assert len(recipes["mixture"].data.train) == 2
    assert {str(recipe.data.eval) for recipe in recipes.values()} == {str(recipes["mixture"].data.eval)}
    assert {run for entry in plan["findings"] for run in entry["arms"]} == {*last, "mixture"}


def test_synthetic_questions_are_answered_from_their_text(tmp_path):
    folder = synthetic_sources.make_questions(tmp_path / "questions")
    train, heldout = (load_puzzles(folder / split) for split in ("train", "heldout"))
    assert (len(train), len(heldout)) == (80, 20) and not set(train["id"]) & set(heldout["id"])
    question = heldout[0]["prompt"][0]["content"][0]["text"]
    one, other = (int(digit) for digit in question if digit.isdigit())
    assert heldout[0]["answer"] == one + other


def test_supervised_training_uses_as_many_puzzles_as_grpo():
    rl, supervised = (load_recipe(str(PLAN.parent / name), ["model.path=x"]) for name in ARMS)
    num_puzzles = rl.grpo.max_steps * rl.grpo.prompts_per_step
    assert num_puzzles == supervised.sft.max_steps * supervised.sft.micro_batches(1).size
    assert [entry.build for entry in rl.data.train] == [entry.build for entry in supervised.data.train]


ARMS = ("tiles.yaml", "tiles-supervised.yaml")


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A plan with one finding and replaced runs: the first arm solves `seed + 2` of 4 puzzles, the other arm one."""
    launched = []

    def launch(folder, arguments, threads):
        if (folder / "DONE").is_file():
            return
        if folder.name != "warm":
            assert (folder.parent / "warm" / "DONE").is_file()
        launched.append(f"{folder.name}-{folder.parent.name[-1]}")
        folder.mkdir(parents=True)
        (folder / "DONE").touch()

    def figure(run, entry):
        return ((int(run.parent.name[-1]) + 2) / 4 if run.name == "one" else 0.25), 0.25

    monkeypatch.setattr(findings, "launch", launch)
    monkeypatch.setattr(findings, "figure", figure)
    monkeypatch.setattr(findings, "make_sources", lambda folder: folder.mkdir(parents=True, exist_ok=True))
    content = {
        "seeds": [0, 1, 2],
        "runs": {
            "warm": {"recipe": "w.yaml"},
            "one": {"recipe": "a.yaml", "after": "warm"},
            "two": {"recipe": "b.yaml", "after": "warm"},
            "unused": {"recipe": "c.yaml"},
        },
        "findings": [
            {
                "name": "x",
                "claim": "One beats two.",
                "arms": ["one", "two"],
                "figure": {"name": "place_accuracy", "task": "image", "grid": [2, 2]},
            }
        ],
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "plan.yaml", launched


@pytest.mark.parametrize("jobs", ["1", "4"])
def test_the_page_has_every_score_and_the_verdict(plan, tmp_path, jobs):
    path, launched = plan
    findings.main([str(path), "--out", str(tmp_path / "out"), "--page", str(tmp_path / "page.md"), "--jobs", jobs])
    assert sorted(launched) == [f"{name}-{seed}" for name in ("one", "two", "warm") for seed in range(3)]
    (finding,) = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert finding["difference"]["value"] == 0.5
    assert finding["verdict"] == "Not shown: the interval includes zero."
    text = (tmp_path / "page.md").read_text()
    assert "| one | 0.500 | 0.750 | 1.000 | 0.750 |" in text
    assert "| chance | 0.250 | 0.250 | 0.250 | – |" in text
    assert "- one: `for SEED in 0 1 2; do jigsaw launch" in text
    findings.main([str(path), "--out", str(tmp_path / "out"), "--jobs", jobs])
    assert len(launched) == 9


def test_an_unknown_finding_is_refused(plan, tmp_path):
    path, _ = plan
    with pytest.raises(SystemExit, match=r"findings: --only: no such finding\. .* has: x"):
        findings.main([str(path), "--out", str(tmp_path / "out"), "--only", "y"])


def test_synthetic_sources_are_deterministic_and_complete(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_sources, "PICTURES", 2)
    monkeypatch.setattr(synthetic_sources, "VIDEOS", 1)
    one, other = (synthetic_sources.make_sources(tmp_path / name) for name in ("one", "other"))
    names = sorted(str(path.relative_to(one)) for path in one.rglob("*.*"))
    assert names == ["pictures/000.png", "pictures/001.png", "videos/000.mp4"]
    assert (one / names[0]).read_bytes() == (other / names[0]).read_bytes() != (one / names[1]).read_bytes()


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([0.2, 0.21, 0.19], "Supported: the interval is above zero."),
        ([-0.2, -0.21, -0.19], "Contradicted: the interval is below zero."),
        ([0.2, -0.2], "Not shown: the interval includes zero."),
        ([0.5], "Not decided: one seed is not enough."),
    ],
)
def test_the_verdict_follows_from_the_interval(differences, expected):
    assert findings.verdict(findings.student(differences)) == expected


def test_the_error_for_a_failed_run_names_its_recipe_and_log(tmp_path):
    with pytest.raises(JigsawError, match=r"none\.yaml .*ended with code 1; see .*a\.log"):
        findings.run_all({"a": {}}, {(0, "a"): ["launch", "none.yaml"]}, tmp_path, 2)


def test_a_score_is_computed_on_one_task_and_grid(run):
    place, chance = findings.figure(run, {"name": "place_accuracy", "task": "image", "grid": [2, 3]})
    assert 0 < place < 1
    assert chance == pytest.approx(1 / 6)
    with pytest.raises(JigsawError, match="has no prediction on image puzzles of grid"):
        findings.figure(run, {"name": "place_accuracy", "task": "image", "grid": [5, 5]})


def test_two_processes_may_write_the_synthetic_sources_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_sources, "PICTURES", 2)
    monkeypatch.setattr(synthetic_sources, "VIDEOS", 1)
    draw, started = synthetic_sources.picture, []

    def picture(generator):
        if not started:
            started.append(True)
            synthetic_sources.make_sources(tmp_path / "made")
        return draw(generator)

    monkeypatch.setattr(synthetic_sources, "picture", picture)
    synthetic_sources.make_sources(tmp_path / "made")
    assert len(list((tmp_path / "made" / "pictures").iterdir())) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["made"]
