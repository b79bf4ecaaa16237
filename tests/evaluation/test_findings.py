"""`make findings`: arms and seeds are run once, compared, and told no stronger than they are."""

import json
from pathlib import Path

import pytest
import yaml

from jigsaw.errors import JigsawError
from jigsaw.evaluation import findings
from jigsaw.recipe import load_recipe

PLAN = Path(__file__).parents[2] / "recipes" / "findings" / "findings.yaml"


def test_every_arm_of_the_plan_is_a_valid_recipe():
    plan = yaml.safe_load(PLAN.read_text())
    assert len(plan["seeds"]) == 3
    for entry in plan["findings"]:
        assert len(entry["arms"]) == 2
        for arm in entry["arms"].values():
            recipe = load_recipe(str(PLAN.parent / arm["recipe"]), [*arm.get("set", ()), "output=runs/x"])
            tasks = {part.build.task for part in recipe.data.eval if part.build}
            assert entry["figure"]["task"] in tasks


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """One finding whose runs are made up: the first arm is right on `seed + 2` of 4 puzzles, the second on one."""
    launched = []

    def launch(folder, words):
        if (folder / "DONE").is_file():
            return
        launched.append(folder.name)
        folder.mkdir(parents=True)
        (folder / "DONE").touch()

    def figure(run, wanted):
        arm, seed = run.name.split("-")
        return (int(seed) + 2) / 4 if arm == "one" else 0.25

    monkeypatch.setattr(findings, "_launch", launch)
    monkeypatch.setattr(findings, "figure", figure)
    entry = {"name": "x", "claim": "One beats two.", "arms": {"one": {"recipe": "a.yaml"}, "two": {"recipe": "b.yaml"}}}
    content = {"seeds": [0, 1, 2], "findings": [entry | {"figure": {"name": "place", "task": "image", "grid": [2, 2]}}]}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "plan.yaml", launched


def test_the_page_tells_figures_with_their_fields_and_what_holds(plan, tmp_path):
    path, launched = plan
    findings.main([str(path), "--out", str(tmp_path / "out"), "--page", str(tmp_path / "page.md")])
    assert sorted(launched) == ["one-0", "one-1", "one-2", "two-0", "two-1", "two-2"]
    (found,) = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert found["difference"]["value"] == 0.5
    assert found["verdict"] == "not shown here: the interval holds zero"
    text = (tmp_path / "page.md").read_text()
    assert "| one | 0.500 | 0.750 | 1.000 | – |" in text
    assert "`[0].arms.one[2].value`" in text
    assert "seed=2" in text
    findings.main([str(path), "--out", str(tmp_path / "out")])
    assert len(launched) == 6


@pytest.mark.parametrize(
    ("differences", "said"),
    [
        ([0.2, 0.21, 0.19], "holds here"),
        ([-0.2, -0.21, -0.19], "the opposite holds here"),
        ([0.2, -0.2], "not shown here: the interval holds zero"),
        ([0.5], "one seed says nothing"),
    ],
)
def test_verdicts_are_no_stronger_than_the_interval(differences, said):
    assert findings.verdict(findings.student(differences)) == said


def test_a_run_that_fails_is_named(tmp_path):
    entry = {"name": "x", "claim": "", "arms": {"a": {"recipe": "none.yaml"}}, "figure": {}}
    with pytest.raises(JigsawError, match=r"none\.yaml .*ended with code 1; see .*a-0\.log"):
        findings.carry_out(entry, [0], tmp_path, tmp_path / "out")


def test_a_figure_is_of_one_kind_of_puzzle(run):
    place = findings.figure(run, {"name": "place", "task": "image", "grid": [2, 3]})
    assert 0 < place < 1
    with pytest.raises(JigsawError, match="holds no prediction on image puzzles of grid"):
        findings.figure(run, {"name": "place", "task": "image", "grid": [5, 5]})
