"""The report page: self-contained, escaped, complete, and written also for unfinished and damaged runs."""

from __future__ import annotations

import base64
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from run_folders import make_run, page_of, right

from jigsaw.data import build_puzzles
from jigsaw.errors import JigsawError
from jigsaw.evaluation.log import Change, Comparison, Figure, Sampled, read_log, write_log
from jigsaw.report.charts import drawing as charts
from jigsaw.report.charts.drawing import Series, chart
from jigsaw.report.page import write_report
from jigsaw.report.runs import read_runs

HOSTILE = "<script>alert('x')</script><img src=//evil.example/x onerror=alert(1)>&\x00\x1b[31m\u202etxt\ud800"


class Elements(HTMLParser):
    """Collects the elements of a page with their attributes, and the elements that are still open."""

    VOID = ("meta", "img", "input", "br", "link", "source")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_loads_no_resource(run):
    page = page_of(run)
    elements = Elements(page)
    assert elements.open == []
    for tag, attributes in elements.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href", "srcset", "poster", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/", "#")), (tag, name, value)
    assert re.findall(r"https?://", page) == []
    assert all(target.startswith("#") for target in re.findall(r"url\(\s*['\"]?([^)]*)", page))
    assert "@import" not in page
    assert len(page) < 3_000_000


def test_every_id_is_unique_and_every_reference_has_a_target(run, tmp_path, puzzle_set):
    page = page_of(run, make_run(tmp_path / "runs" / "other", puzzle_set, name="other"))
    ids = [value for _, attributes in Elements(page).elements if (value := attributes.get("id")) is not None]
    assert len(ids) == len(set(ids))
    targets = re.findall(r'href="#([^"]+)"', page) + re.findall(r"url\(#([^)]+)\)", page)
    assert targets
    assert set(targets) <= set(ids)


def test_the_same_run_gives_the_same_bytes(run):
    assert page_of(run) == page_of(run)


def test_the_page_shows_the_result_scores_curves_and_recipe(run):
    page = page_of(run)
    assert '<p class="badge same">no measurable change</p>' in page  # four sources are too few for significance
    assert "GRPO made no measurable difference: solved puzzles went from 0% to 50%" in page
    for words in ("After GRPO", "Warm-up", "Change", "8 puzzles from 4 sources", "tiny qwen2_5_vl", "a trial"):
        assert words in page
    assert '<p class="title">Solved held-out puzzles</p>' in page
    for title in ("Held-out puzzles", "Reward of rollouts", "Rollouts", "Supervised loss", "Entropy of the policy"):
        assert f'<p class="title">{title}</p>' in page
    assert "GRPO loss" not in page and "Completion length" not in page
    assert "num_generations: 8" in page
    assert "jigsaw report " in page


def test_hostile_text_is_shown_and_escaped(tmp_path, puzzle_set):
    folder = make_run(tmp_path / "runs" / "hostile", puzzle_set, name=HOSTILE, completions=[HOSTILE])
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    recipe |= {"description": "<b>bold</b>", "metrics": ["<i>m</i>", 3], "rewards": [{"use": "</dd><script>"}]}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    page = page_of(folder)
    elements = Elements(page)
    assert elements.open == []
    assert "script" not in [tag for tag, _ in elements.elements]
    assert not [attributes for _, attributes in elements.elements if any(name.startswith("on") for name in attributes)]
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert not set(page) & {"\x00", "\x1b", "\u202e"}
    assert "\N{SYMBOL FOR NULL}" in page


def test_a_reward_with_a_hostile_name_is_escaped_in_the_legend(run):
    lines = "".join(
        json.dumps({"stage": "grpo", "step": step, "reward": 0.1, "reward/<svg onload=x>$": step}) + "\n"
        for step in range(3)
    )
    (run / "metrics.jsonl").write_text(lines)
    page = page_of(run)
    assert "&lt;svg onload=x&gt;$" in page
    assert "<svg onload" not in page


def test_wrong_places_have_a_symbol_and_invalid_answers_a_reason(run):
    page = page_of(run)
    assert '<li class="bad"><b>' in page
    assert "<i>✗</i>" in page
    assert "<i>✓</i>" in page
    assert "∅ no valid answer" in page
    assert "Invalid: the answer uses a piece twice" in page
    assert "4 of 6 places right" in page
    assert "No place right" in page
    assert "All places right" in page
    assert "before GRPO: 4 of 6" in page


def test_the_page_shows_groups_places_and_reasons(run):
    page = page_of(run)
    shares = read_log(run).main.model.places[0].confusion
    assert f'<td class="home" style="--share: {round(shares[2][2] * 100, 1)}%">{shares[2][2]:.2f}</td>' in page
    assert "<td>1</td>" in page[page.index("Valid and invalid answers") :]
    assert page.count("jigsaw launch small.yaml") == 1
    assert "<h4>Worst " in page and "<h4>Best " in page


def test_scores_of_samples_and_of_a_comparison_are_on_the_page(run):
    log = read_log(run)
    figure = Figure(0.75, 0.5, 0.875, chance=0.125, chance_error=0.02)
    sampled = Sampled(samples=4, pass_at={4: figure}, majority={"exact": figure})
    compared = Comparison(other="evals/other", num_puzzles=8, changes={"exact": Change(-0.25, -0.5, -0.125, 0.0625)})
    one = replace(log.main, model=replace(log.main.model, sampled=sampled), warmup=None, compared=compared)
    write_log(replace(log, sets=[one]), run)
    page = page_of(run)
    assert "pass@4" in page and "exact of the majority vote" in page and "Compared with evals/other" in page
    assert "<small>± 0.020</small>" in page
    assert "−0.250<small>[−0.500, −0.125]</small></td><td>0.062</td>" in page


def test_a_log_of_another_version_is_refused(run):
    (run / "evaluation.json").write_text('{"heldout": {"exact": {"value": 1.0}}}')
    with pytest.raises(JigsawError, match="has format 1, this version reads 2; evaluate again with `jigsaw eval`"):
        page_of(run)


def test_a_broken_log_has_a_note_and_the_rest_of_the_page_is_written(run):
    stored = json.loads((run / "evaluation.json").read_text())
    del stored["sets"][0]["model"]["estimates"]["exact"]
    (run / "evaluation.json").write_text(json.dumps(stored))
    page = page_of(run)
    assert "sets.0.model: Value error, estimates lacks exact; evaluate again with" in page
    assert "Rollouts" in page


MISSING = {
    "evaluation.json": "No evaluation on held-out puzzles yet",
    "metrics.jsonl": "No training metrics yet",
    "predictions": "No predictions on held-out puzzles yet.",
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_file_is_replaced_by_a_note(run, name):
    path = run / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = page_of(run)
    assert MISSING[name] in page
    assert "The resolved recipe" in page


@pytest.mark.parametrize("name", ["evaluation.json", "metrics.jsonl", "data.json", "predictions/model.jsonl"])
@pytest.mark.parametrize("text", ["{", '["a"]\n[1]\n', '{"heldout": 3}\n{"stage": 1}\n', "null", "", "\x00\xff"])
def test_a_broken_file_is_ignored(run, name, text):
    (run / name).write_text(text, encoding="latin-1")
    assert "The resolved recipe" in page_of(run)


def test_an_incomplete_last_line_is_ignored(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "grpo", "st')
    [read] = read_runs([run])
    assert read.notes == []
    assert len(read.rows("grpo")) == 44


def test_a_run_with_only_a_recipe_has_a_page(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("name: begun\n")
    page = page_of(tmp_path / "run")
    assert "<h1>begun</h1>" in page
    assert "The model has not been evaluated on held-out puzzles yet." in page


def test_the_page_of_a_supervised_run_has_no_warm_up_and_no_change(run):
    log = read_log(run)
    write_log(replace(log, sets=[replace(log.main, warmup=None, compared=None)]), run)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"grpo": None}))
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(line for line in lines if '"sft"' in line))
    page = page_of(run)
    assert "After training" in page
    assert "Supervised loss" in page
    assert "The model solves 50% of the held-out puzzles" in page
    for absent in ("After GRPO", "Change", "Reward of rollouts", "before GRPO"):
        assert absent not in page


def test_curves_are_folded_if_there_is_an_evaluation(run):
    titles = [f'<p class="title">{title}</p>' for title in ("Rollouts", "Supervised loss", "Entropy of the policy")]
    evaluated = page_of(run)
    assert "<summary>More curves</summary>" in evaluated
    assert not any(title in evaluated[: evaluated.index("<details>")] for title in titles)
    (run / "evaluation.json").unlink()
    page = page_of(run)
    assert "More curves" not in page
    assert all(title in page[: page.index("<details>")] and page.count(title) == 1 for title in titles)


def test_without_the_puzzle_set_only_the_gallery_is_missing(tmp_path, puzzle_set):
    moved = tmp_path / "set"
    shutil.copytree(puzzle_set, moved)
    folder = make_run(tmp_path / "runs" / "small", moved)
    shutil.rmtree(moved)
    page = page_of(folder)
    assert "The held-out puzzle set cannot be opened" in page
    assert '<article class="' not in page
    assert "Pieces in place" in page


@pytest.mark.parametrize(("missing", "left"), [(1, 4), (4, 0)])
def test_without_some_photos_only_their_pictures_are_missing(tmp_path, puzzle_set, missing, left):
    photos = tmp_path / "photos"
    shutil.copytree(puzzle_set.parent / "photos", photos)
    build_puzzles("image", photos, tmp_path / "set", config={"grid": "2x3"}, progress=False)
    folder = make_run(tmp_path / "runs" / "small", tmp_path / "set")
    for photo in sorted(photos.iterdir())[:missing]:
        photo.unlink()
    page = page_of(folder)
    # Of the four puzzles, two are the worst and two the best, and all are in the sample.
    assert page.count('<article class="card') == 2 * left
    assert page.count("No pictures: ") == 2 * (missing if left else 0)
    assert ("The held-out puzzles cannot be shown: " in page) == (not left)


@pytest.mark.parametrize("kind", ["absent", "a file", "an empty folder", "a list", "no YAML"])
def test_a_folder_without_a_run_is_refused(tmp_path, kind):
    path = tmp_path / "thing"
    if kind == "a file":
        path.write_text("")
    elif kind != "absent":
        path.mkdir()
        if kind != "an empty folder":
            (path / "recipe.yaml").write_text("- 1\n" if kind == "a list" else "a: [\x00")
    out = tmp_path / "page.html"
    with pytest.raises(JigsawError) as error:
        write_report([path], out)
    assert "\n" not in str(error.value)
    assert "thing" in str(error.value)
    assert not out.exists()


def test_two_runs_are_compared_and_each_has_its_section(run, tmp_path, puzzle_set):
    other = make_run(tmp_path / "runs" / "other", puzzle_set, name="other", completions=[right])
    page = page_of(run, other)
    assert "<h1>2 runs compared</h1>" in page
    for number, name in enumerate(("small", "other")):
        assert f'<section class="run" id="r{number}">' in page
        assert f'<a href="#r{number}">{name}</a>' in page
    comparison = page[: page.index('<section class="run"')]
    assert "Held-out pieces in place" in comparison
    assert comparison.count("<span>small</span>") == comparison.count("<span>other</span>") >= 4
    assert "not evaluated on the same puzzles" not in page


def test_the_page_warns_about_runs_on_different_puzzles(run, tmp_path, puzzle_set):
    other = make_run(tmp_path / "runs" / "other", puzzle_set, name="other")
    lines = (other / "predictions" / "model.jsonl").read_text().splitlines(keepends=True)
    (other / "predictions" / "model.jsonl").write_text("".join(lines[1:]))
    assert "not evaluated on the same puzzles" in page_of(run, other)


def test_runs_of_the_same_name_are_labelled_by_their_folders(run, tmp_path, puzzle_set):
    same_name = make_run(tmp_path / "runs" / "small-2", puzzle_set, name="small")
    assert [read.label for read in read_runs([run, same_name])] == ["small", "small-2"]


def test_a_chart_is_an_svg_image_in_light_and_dark_without_names():
    reward_chart = chart("Reward", [Series("<mine>", [(step, step / 7) for step in range(500)])])
    light, dark = (
        base64.b64decode(uri.removeprefix("data:image/svg+xml;base64,"))
        for uri in (reward_chart.image(), reward_chart.image(dark=True))
    )
    assert b"#1c6bb0" in light and b"#6db3f2" in dark
    assert b"mine" not in light and b"<script" not in light
    assert len(light) < 30_000
    assert ElementTree.fromstring(light).tag == "{http://www.w3.org/2000/svg}svg"
    assert b"0.25" in chart("Share", [Series("a", [(0, 0.1), (1, 0.9)])], share=True).file
    assert chart("Nothing", [Series("a", [])]) is None


def test_the_colours_of_charts_equal_those_of_the_style_sheet():
    style = (Path(charts.__file__).parents[1] / "templates" / "style.html.j2").read_text()
    light, dark = style.split("prefers-color-scheme: dark", 1)
    for colours, part in ((charts.LIGHT, light), (charts.DARK, dark)):
        for name, colour in colours.items():
            assert f"--{name}: {colour}" in part, name
