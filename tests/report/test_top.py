"""The top of a report: the result, three puzzles before and after GRPO, and a curve; also during training."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from run_folders import page_of, right, samples, swapped
from test_gallery import are_similar, pixels, place, sample_of

from jigsaw.data import load_puzzles
from jigsaw.evaluation.log import FIRST, LATEST, Change, read_log, write_log, write_periodic
from jigsaw.report import page, write_report
from jigsaw.report.charts.curves import progress_chart
from jigsaw.report.gallery import CHANGES, build_gallery
from jigsaw.report.runs import read_runs
from jigsaw.report.selection import choose
from jigsaw.run_folder import RunFolder
from jigsaw.training.periodic import LiveReport


def test_the_page_begins_with_the_result_puzzles_and_a_curve_and_folds_the_rest(run):
    text = page_of(run)
    marks = ['class="badge', 'class="verdict"', 'class="pairs"', 'class="large"', "<details>"]
    assert [text.index(mark) for mark in marks] == sorted(text.index(mark) for mark in marks)
    assert text.index("<table") > text.index("<details>")


def test_internal_names_are_only_in_the_section_on_the_origin_of_the_scores(run):
    text = page_of(run)
    body = text[text.index("<body>") :]
    fold = body[body.index("Where the figures come from") : body.index("The resolved recipe")]
    recipe = body[body.index("The resolved recipe") :]
    rest = body.replace(fold, "").replace(recipe, "")
    assert "evaluation.json" in fold and "metrics.jsonl" in fold
    for name in ("place_accuracy", "heldout.", "heldout/", "evaluation.json", "metrics.jsonl", "equal_reward_groups"):
        assert name not in rest


def test_the_puzzles_at_the_top_have_each_outcome_in_proportion():
    items = [sample_of(number, f"photo-{number % 7}", "right") for number in range(90)]
    kinds = {
        item.id: ("newly solved", "solved before and after", "rare")[(n >= 60) + (n >= 89)]
        for n, item in enumerate(items)
    }
    chosen = choose(items, 3, lambda item: kinds[item.id])
    assert sorted(kinds[item.id] for item in chosen) == ["newly solved", "newly solved", "solved before and after"]
    assert choose(list(reversed(items)), 3, lambda item: kinds[item.id]) == chosen


def test_each_puzzle_shows_its_tiles_and_both_answers_with_marked_mistakes(run, puzzle_set):
    [read] = read_runs([run])
    rows = {row["source"]["path"]: row for row in load_puzzles(puzzle_set)}
    _, cards, note = build_gallery(read, 0).top
    assert len(cards) == 3
    by_order = {tuple(item.answer): (read.before[item.id], item) for item in read.samples}
    for pair in cards:
        before, after = by_order[tuple(slot.piece for slot in pair.answer)]
        assert pair.result == CHANGES[before.exact >= 1, after.exact >= 1]
        assert [answer.title for answer in pair.arrangements] == ["Warm-up", "After GRPO"]
        truth, shown = pixels(pair.truth.uri), pixels(pair.shown[0].uri)
        for answer, scored in zip(pair.arrangements, (before, after), strict=True):
            assert [slot.piece for slot in answer.order] == (scored.order or [])
            for number, slot in enumerate(answer.order):
                put = place(pixels(answer.picture.uri), number)
                assert are_similar(put, place(shown, slot.piece - 1))
                assert slot.right == are_similar(put, place(truth, number))
        assert pair.source in rows
    assert note.startswith("Of 8 held-out puzzles: ")
    assert "a sample in these proportions" in note


def test_a_run_without_a_warm_up_shows_only_its_final_answers(run):
    log = read_log(run)
    write_log(replace(log, sets=[replace(log.main, warmup=None, compared=None)]), run)
    title, cards, _ = build_gallery(read_runs([run])[0], 0).top
    assert title == "Three held-out puzzles"
    assert {len(pair.arrangements) for pair in cards} == {1}


@pytest.mark.parametrize(("puzzles", "words"), [(3, "(3 of 8 puzzles)"), (8, "(all 8 puzzles)")])
def test_the_curve_names_the_number_of_puzzles_of_each_score(run, puzzles, words):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    counts = {"heldout_puzzles": puzzles, "heldout_total": 8}
    lines = [line | counts if "heldout/exact" in line else line for line in lines]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    chart = progress_chart(read_runs([run])[0])
    assert [entry.label for entry in chart.legend] == [
        f"during GRPO {words}",
        "after GRPO (all 8 puzzles, 95% interval)",
        "before GRPO",
        "guessing",
    ]
    # Only scores on the same puzzles are connected by a line.
    assert chart.legend[0].last == (0.5 if puzzles == 8 else 0.1)


@pytest.fixture
def unfinished(run, puzzle_set) -> Path:
    """The run at GRPO step 20 of 40, after two periodic evaluations."""
    (run / "evaluation.json").unlink()
    for name in ("model", "warmup"):
        (run / "predictions" / f"{name}.jsonl").unlink()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    counts = {"heldout_puzzles": 8, "heldout_total": 16, "heldout_chance/exact": 1 / 720}
    lines = [
        line | counts if "heldout/exact" in line else line
        for line in lines
        if line["step"] <= 20 or line["stage"] == "sft"
    ]
    lines = [
        line | {"heldout/exact": 0.5} if "heldout/exact" in line and line["step"] == 20 else line for line in lines
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_periodic(run, 0, samples(puzzle_set, [swapped]))
    write_periodic(run, 20, samples(puzzle_set, [right]))
    return run


def test_the_page_of_a_running_training_reloads_itself(unfinished):
    write_report([unfinished], unfinished / "report.html", training=True)
    text = (unfinished / "report.html").read_text()
    assert '<meta http-equiv="refresh"' in text
    assert "This run is still training: GRPO step 20 of 40." in text
    assert (
        "So far, at GRPO step 20, solved puzzles went from 10% to 50% (8 of 16 held-out puzzles);"
        " guessing solves 0.1%." in text
    )
    assert text.count("✓ solved") == 3
    assert "during GRPO (8 of 16 puzzles)" in text


def test_the_page_of_an_unfinished_run_says_so_and_does_not_reload(unfinished):
    text = page_of(unfinished)
    assert "This run is not finished: GRPO step 20 of 40." in text
    assert 'http-equiv="refresh"' not in text
    assert "Three puzzles before GRPO and now" in text


def test_the_first_periodic_evaluation_removes_those_of_an_earlier_run(unfinished, puzzle_set):
    write_periodic(unfinished, 0, samples(puzzle_set, [swapped]))
    assert RunFolder(unfinished).predictions(FIRST).is_file()
    assert not RunFolder(unfinished).predictions(LATEST).exists()


def test_a_page_that_cannot_be_written_is_one_warning_and_training_continues(unfinished, monkeypatch):
    monkeypatch.setattr(page, "read_runs", lambda folders: 1 / 0)
    console = Console(file=io.StringIO(), width=300)
    update = LiveReport(unfinished, console)
    update()
    update()
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 1
    assert re.fullmatch(
        r"warning: .*report\.html was not updated \(ZeroDivisionError: .*\); training continues", lines[0]
    )


def test_without_solved_puzzles_the_curve_shows_the_place_accuracy(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines = [line | {"heldout/exact": 0.0} if "heldout/exact" in line else line for line in lines]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "evaluation.json").unlink()
    chart = progress_chart(read_runs([run])[0])
    assert chart.title == "Pieces in the right place, held-out puzzles"
    assert chart.percent


def test_an_additional_held_out_set_has_its_result_below_the_main_one(run):
    log = read_log(run)
    model, compared = log.main.model, log.main.compared
    exact = replace(model.estimates["exact"], value=0.33)
    other = replace(
        log.main,
        name="real <photos>",
        model=replace(model, estimates=model.estimates | {"exact": exact}),
        compared=replace(compared, changes=compared.changes | {"exact": Change(0.3, 0.2, 0.4, 0.01)}),
    )
    write_log(replace(log, sets=[log.main, other]), run)
    text = page_of(run)
    top = text[: text.index("<main>")]
    assert top.index("GRPO made no measurable difference") < top.index("On real &lt;photos&gt;:")
    assert "</strong> GRPO raised solved puzzles from 0% to 33%; guessing solves 0.1%." in top
    assert "<h4>Held-out set: real &lt;photos&gt;</h4>" in text
