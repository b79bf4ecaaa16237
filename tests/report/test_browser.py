"""The browser of completions in the report: filters by task, outcome, reward and step, without a script."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

from run_folders import page_of

from jigsaw.report.browser import SLOTS, build_browser
from jigsaw.report.runs import read_runs


def row(step: int, **changes: object) -> dict[str, object]:
    defaults = {"step": step, "id": f"i{step}", "task": "image", "answer": "2, 1", "completion": "2, 1", "total": 1.0}
    return defaults | {"exact": 1.0, "valid": 1.0} | changes


def browser_of(run: Path, rows: list[dict[str, object]], most: int = 5000):
    (run / "completions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows) + '{"step": 4, "comp')
    return build_browser(read_runs([run])[0], most)


def choices(browser, name: str) -> dict[str, int]:
    return dict(next(one for one in browser.filters if one.name == name).choices)


def test_completions_of_training_and_of_heldout_puzzles_are_listed(run):
    rows = [row(1), row(21, exact=0.0, place_accuracy=0.0), row(41, exact=0.0, valid=0.0, total=None)]
    browser = browser_of(run, rows)
    steps = choices(browser, "Step")
    assert {"1": 1, "21": 1, "41": 1}.items() <= steps.items()
    assert steps["held-out, before GRPO"] == steps["held-out, after GRPO"] > 0
    assert browser.total == len(browser.entries) == sum(steps.values())
    assert [entry.outcome for entry in browser.entries[:3]] == ["right", "wrong", "invalid"]
    assert choices(browser, "Reward")["none"] == 1


def test_the_classes_of_entries_agree_with_the_counts_of_the_filters(run):
    browser = browser_of(run, [row(step, task=f"task{step % 3}", total=step / 10) for step in range(1, 60)])
    for one in browser.filters:
        numbers = [int(re.search(rf"\b{one.letter}(\d+)\b", entry.classes)[1]) for entry in browser.entries]
        assert [numbers.count(at) for at in range(len(one.choices))] == [count for _, count in one.choices]


def test_filters_have_at_most_as_many_choices_as_the_style_sheet(run):
    rows = [row(step, task=f"t{step}", total=step * 0.37) for step in range(1, 500)]
    browser = browser_of(run, rows)
    assert max(len(one.choices) for one in browser.filters) <= SLOTS
    assert "other tasks" in choices(browser, "Task")
    assert "1 to 50" in choices(browser, "Step")


def test_many_completions_are_sampled_evenly_and_counted(run):
    browser = browser_of(run, [row(step) for step in range(1, 4001)], most=100)
    steps = [int(entry.step) for entry in browser.entries if entry.step.isdecimal()]
    assert len(browser.entries) == 100
    assert browser.total > 4000
    gaps = {later - earlier for earlier, later in itertools.pairwise(steps)}
    assert max(gaps) - min(gaps) <= 1


def test_a_long_completion_is_cut_in_the_middle(run):
    browser = browser_of(run, [row(1, completion="begin" + "x" * 4_000_000 + "end")])
    text = browser.entries[0].completion
    assert text.startswith("begin")
    assert text.endswith("end")
    assert "more characters" in text


def test_the_browser_needs_no_script_and_escapes_hostile_text(run):
    browser_of(run, [row(1, completion="</pre><script>alert(1)</script>", task="<b>", answer='"><img src=x>')])
    page = page_of(run)
    assert "<script" not in page
    assert "&lt;/pre&gt;&lt;script&gt;" in page
    assert ".b-t0:checked ~ .entries > :not(.t0)" in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'\bfor="([^"]+)"', page)) <= set(ids)


def test_a_run_without_completions_has_no_browser(run):
    for path in run.glob("predictions/**/*.jsonl"):
        path.unlink()
    (run / "evaluation.json").unlink()
    assert not build_browser(read_runs([run])[0]).entries
    assert "Browse completions" not in page_of(run)


def test_the_outcomes_agree_with_those_of_the_gallery(run):
    scores = [(1.0, 1.0, 1.0), (0.0, 1.0, 0.5), (0.0, 1.0, 0.0), (0.0, 0.0, 0.0), (0.0, 1.0, None), (None, None, None)]
    rows = [row(at, exact=one[0], valid=one[1], place_accuracy=one[2]) for at, one in enumerate(scores, 1)]
    outcomes = [entry.outcome for entry in browser_of(run, rows).entries[: len(rows)]]
    assert outcomes == ["right", "partly", "wrong", "invalid", "wrong", "unscored"]
