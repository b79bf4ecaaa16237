"""The reward benchmark runs as a script, and its simple implementation gives the same rewards on plain texts."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from jigsaw.rewards import visual_jigsaw

SCRIPT = Path(__file__).parents[2] / "benchmarks/rewards.py"


def test_the_benchmark_reports_rate_and_ratio():
    command = [sys.executable, str(SCRIPT), "--json", "--count", "500", "--seconds", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["per_second"] > 0
    assert result["ratio"] > 0


def test_both_implementations_agree_except_where_the_simple_one_is_wrong():
    spec = importlib.util.spec_from_file_location("rewards_benchmark", SCRIPT)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    completions, answers = benchmark.random_completions(400)
    assert {len(text) for text in completions} >= {benchmark.BYTES}
    built_in, simple = visual_jigsaw(completions, answers), benchmark.regex_reward(completions, answers)
    for text, a, b in zip(completions, built_in, simple, strict=True):
        if " and " in text.rpartition("<answer>")[2]:
            assert a == 0.2  # "2 and 3 and 1" is not a list of numbers; the simple version accepts it
        else:
            assert a == pytest.approx(b)
