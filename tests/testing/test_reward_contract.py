"""The contract of rewards: built-in rewards and examples fulfil it, and broken properties are detected and named."""

import json
import sys
from pathlib import Path

import pytest

from jigsaw.cli import command as cli
from jigsaw.rewards import RewardError, list_rewards
from jigsaw.testing import ContractError, assert_reward, check_reward

EXAMPLE = Path(__file__).parents[2] / "examples" / "reward_plugin" / "jigsaw_brevity.py"


@pytest.mark.parametrize("name", [info.name for info in list_rewards()])
def test_built_in_rewards_fulfil_the_contract(name):
    assert_reward(name)


@pytest.mark.parametrize("name", ["brevity", "piece_talk", "slow_judge", "num_words"])
def test_the_example_rewards_fulfil_the_contract(name):
    assert_reward(f"{EXAMPLE}:{name}")


def test_options_are_passed_to_the_reward():
    assert_reward("visual_jigsaw", discount=0.5, format_weight=0.0)
    with pytest.raises(RewardError, match="did you mean discount"):
        check_reward("visual_jigsaw", discuont=0.5)


@pytest.fixture
def reward(tmp_path):
    """Returns a function that writes a file with a reward and returns its name."""

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


@pytest.mark.parametrize("prefix", BROKEN)
def test_every_broken_property_is_detected(reward, prefix):
    body, message = BROKEN[prefix]
    broken = [finding for finding in check_reward(reward(body), columns={"caption": "a"}) if finding.ok is False]
    assert any(finding.name.startswith(prefix) and message in finding.detail for finding in broken), broken


NOTES = {
    "the same completions": "def reward(completions, **columns):\n    return [random() for _ in completions]\n",
    "a row earns": "def reward(completions, **columns):\n    return [1 / len(completions) for _ in completions]\n",
}


@pytest.mark.parametrize("prefix", NOTES)
def test_a_property_that_may_be_intended_is_reported_but_does_not_fail(reward, prefix):
    use = reward(NOTES[prefix])
    (finding,) = [finding for finding in check_reward(use) if finding.name.startswith(prefix)]
    assert finding.ok is None
    assert finding.detail
    assert_reward(use)


def test_a_reward_with_another_column_is_checked_only_with_values_of_the_column(reward):
    use = reward(
        "def reward(completions, caption):\n    return [float(c in t) for t, c in zip(completions, caption)]\n"
    )
    assert {finding.ok for finding in check_reward(use)} == {None}
    findings = check_reward(use, columns={"caption": "sky"})
    assert [finding.ok for finding in findings[:4]] == [True] * 4


def test_a_contract_error_names_the_reward_and_every_broken_property(reward):
    use = reward(BROKEN["broken orders earn"][0])
    with pytest.raises(ContractError) as failed:
        assert_reward(use)
    first, *rest = str(failed.value).splitlines()
    assert first == f"{use} breaks its contract:"
    assert rest


def test_the_command_prints_the_properties_and_fails_if_one_is_broken(reward, monkeypatch, capsys):
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
