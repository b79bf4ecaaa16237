"""The test kit for rewards: ours and the examples keep the contract; every way to break it is found and named."""

import json
import sys
from pathlib import Path

import pytest

from jigsaw.cli import command as cli
from jigsaw.rewards import RewardError, list_rewards
from jigsaw.testing import ContractError, assert_reward, check_reward

EXAMPLE = Path(__file__).parents[2] / "examples" / "reward_plugin" / "jigsaw_brevity.py"


@pytest.mark.parametrize("name", [info.name for info in list_rewards()])
def test_our_rewards_keep_the_contract(name):
    assert_reward(name)


@pytest.mark.parametrize("name", ["brevity", "piece_talk", "slow_judge", "num_words"])
def test_the_examples_keep_the_contract(name):
    assert_reward(f"{EXAMPLE}:{name}")


def test_options_are_passed_on():
    assert_reward("visual_jigsaw", discount=0.5, format_weight=0.0)
    with pytest.raises(RewardError, match="did you mean discount"):
        check_reward("visual_jigsaw", discuont=0.5)


@pytest.fixture
def reward(tmp_path):
    """Writes a file with a reward and gives its name."""

    def write(body):
        file = tmp_path / "mine.py"
        file.write_text(f"import re\nfrom itertools import count\nfrom random import random\n{body}")
        return f"{file}:reward"

    return write


PLACES = """
def reward(completions, answer, **columns):
    values = []
    for text, right in zip(completions, answer):
        found = [int(n) for n in re.findall(r"[0-9]{1,4}", text.rpartition("<answer>")[2])]
        values.append(FOUND)
    return values
"""
BROKEN = {
    "any text earns a number": (
        "def reward(completions, answer, **columns):\n"
        "    return [float(int(max(re.findall(r'[0-9]+', text), default='0', key=len))) for text in completions]\n",
        "99999",
    ),
    "strings and messages": (
        "def reward(completions, caption):\n    return [float(isinstance(text, str)) for text in completions]\n",
        "completion_text",
    ),
    "broken orders earn": (
        PLACES.replace("FOUND", "sum(a == b for a, b in zip(found, right)) / len(right)"),
        "duplicates earn 0.8, an empty answer 0",
    ),
    "the numbering of the pieces": (
        PLACES.replace("FOUND", "float(found == right) + 0.1 * (sorted(found) == sorted(right) and found[0] == 1)"),
        "with other piece numbers",
    ),
}


@pytest.mark.parametrize("found", BROKEN)
def test_every_broken_property_is_found(reward, found):
    body, message = BROKEN[found]
    broken = [finding for finding in check_reward(reward(body), columns={"caption": "a"}) if finding.ok is False]
    assert any(finding.name.startswith(found) and message in finding.detail for finding in broken), broken


FOR_THE_AUTHOR = {
    "the same completions": "def reward(completions, **columns):\n    return [random() for _ in completions]\n",
    "a row earns": "def reward(completions, **columns):\n    return [1 / len(completions) for _ in completions]\n",
}


@pytest.mark.parametrize("found", FOR_THE_AUTHOR)
def test_what_may_be_intended_is_reported_but_not_a_fault(reward, found):
    use = reward(FOR_THE_AUTHOR[found])
    (finding,) = [finding for finding in check_reward(use) if finding.name.startswith(found)]
    assert finding.ok is None
    assert finding.detail
    assert_reward(use)


def test_a_column_of_its_own_is_asked_for_and_can_be_given(reward):
    use = reward(
        "def reward(completions, caption):\n    return [float(c in t) for t, c in zip(completions, caption)]\n"
    )
    assert {finding.ok for finding in check_reward(use)} == {None}
    found = check_reward(use, columns={"caption": "sky"})
    assert [finding.ok for finding in found[:4]] == [True] * 4


def test_failing_names_the_reward_and_every_property(reward):
    use = reward(BROKEN["broken orders earn"][0])
    with pytest.raises(ContractError) as failed:
        assert_reward(use)
    first, *rest = str(failed.value).splitlines()
    assert first == f"{use} breaks its contract:"
    assert rest


def test_the_command_prints_the_properties_and_fails_with_them(reward, monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["jigsaw", "rewards", "check", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output = capsys.readouterr()
        return ended.value.code, output.out, output.err

    code, out, _ = run("visual_jigsaw", "discount=0.5", "--json")
    assert code == 0
    assert json.loads(out) == {"name": "visual_jigsaw", "ok": True, "findings": json.loads(out)["findings"]}
    code, out, _ = run(reward(BROKEN["broken orders earn"][0]))
    assert code == 1
    assert "of 6 properties do not hold" in out
    code, _, err = run()
    assert (code, err.count("\n")) == (2, 1)
    assert "jigsaw rewards check: missing argument 'name'" in err
