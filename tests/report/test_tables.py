"""`jigsaw report` as tables and plots: scores, the origin of each, and reports on single evaluations."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from markupsafe import escape
from run_folders import make_run, page_of
from typer.testing import CliRunner

from jigsaw.cli.command import app
from jigsaw.errors import JigsawError
from jigsaw.evaluation import evaluate as run_module
from jigsaw.evaluation.evaluate import evaluate_checkpoint
from jigsaw.evaluation.log import read_log
from jigsaw.report import page
from jigsaw.report.charts.plots import write_plots
from jigsaw.report.tables import paper_tables
from jigsaw.results.tables import Cell, PaperTable, Row, printed


@pytest.fixture
def evaluation(monkeypatch, puzzle_folder, tmp_path):
    """A folder that `jigsaw eval --out` wrote."""
    monkeypatch.setattr(run_module, "open_engine", lambda *_, **__: lambda rows: [["2, 1, 4, 3"] for _ in rows])
    evaluate_checkpoint("org/model", puzzle_folder, out=tmp_path / "mine")
    return tmp_path / "mine"


def test_every_row_of_a_table_names_its_file_and_its_command(run, evaluation):
    rows = list(csv.DictReader(io.StringIO(printed(paper_tables([run, evaluation]), "csv"))))
    assert {row["row"] for row in rows} == {"chance", "small warm-up", "small trained", "mine"}
    logs = {"small warm-up": read_log(run).main.warmup, "small trained": read_log(run).main.model}
    logs["mine"] = read_log(evaluation).main.model
    for row in rows:
        assert Path(row["file"]).is_file()
        if row["row"] != "chance":
            figure = logs[row["row"]].estimates[row["figure"]]
            values = [float(row[name]) for name in ("value", "low", "high")]
            assert values == [figure.value, figure.low, figure.high]
    commands = {row["row"]: row["command"] for row in rows}
    assert commands["small trained"] == "jigsaw launch small.yaml"
    assert commands["mine"] == read_log(evaluation).command


def table(name, value=0.25, low=0.1, high=0.4):
    cells = {"place_accuracy": Cell(value, low, high)}
    return PaperTable("Held-out, 95%", ["exact", "place_accuracy"], [Row(name, cells, "e.json", "jigsaw eval x")])


def test_markdown_names_the_origin_below_the_table():
    text = printed([table("a|b")], "markdown")
    assert "| a\\|b | – | 0.250 [0.100, 0.400] |" in text
    assert "- `e.json`, written by `jigsaw eval x`" in text


def test_latex_escapes_names_and_keeps_the_origin_as_a_comment():
    text = printed([table("my_run & 50%")], "latex")
    assert r"my\_run \& 50\% & -- & 0.250 {\scriptsize [0.100, 0.400]} \\" in text
    assert text.startswith("% e.json, written by jigsaw eval x")


def test_a_small_chance_is_not_printed_as_zero():
    assert "2.8e-06" in printed([table("chance", 1 / 362880, None, None)], "markdown")


def test_plots_are_svg_files_with_their_legend(run, puzzle_set, tmp_path):
    other = make_run(tmp_path / "runs" / "second", puzzle_set, name="a <b> & \x00c")
    files = write_plots([run, other], tmp_path / "plots")
    assert {"held-out-place-accuracy-by-checkpoint.svg", "all-held-out-reward.svg"} <= {path.name for path in files}
    for path in files:
        root = ElementTree.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "http://www.w3.org/1999/xlink" in path.read_text() or "href" not in path.read_text()
    assert "a &lt;b&gt; &amp; �c" in (tmp_path / "plots" / "all-held-out-reward.svg").read_text(encoding="utf-8")


def test_the_page_names_the_files_the_command_and_the_versions_of_its_scores(run):
    text = page_of(run)
    origin = text[text.index("Where the figures come from") :]
    for part in ("jigsaw launch small.yaml", f"{run}/evaluation.json", f"{run}/metrics.jsonl", "torch 2"):
        assert part in origin


def test_a_single_evaluation_has_a_page(evaluation):
    text = page_of(evaluation)
    assert "<h1>mine</h1>" in text
    assert '<article class="card' in text
    assert str(escape(read_log(evaluation).command)) in text
    assert "Recipe" not in text


@pytest.mark.parametrize("columns", [page.WIDEST_TABLE, page.WIDEST_TABLE + 1])
def test_a_table_that_is_too_wide_for_a_page_is_transposed(monkeypatch, tmp_path, columns):
    """For example the thirteen benchmarks of a suite; both layouts have all scores."""
    names = [f"column{number}" for number in range(columns)]
    rows = [Row(name, {key: Cell(0.5, 0.4, 0.6) for key in names}, "a.json", "make") for name in ("mine", "theirs")]
    monkeypatch.setattr(page, "other_tables", lambda folders: [PaperTable("Caption", names, rows)])
    monkeypatch.setattr(page, "run_folders", lambda folders: [])
    text = page_of(tmp_path)
    across, down = (names, ["mine", "theirs"]) if columns == page.WIDEST_TABLE else (["mine", "theirs"], names)
    assert re.findall('<th scope="col">([^<]+)</th>', text) == across
    assert re.findall('<th scope="row">(.+?)</th>', text) == down
    assert re.findall('data-label="(.+?)">0.500<small>', text) == across * len(down)


def test_the_command_prints_json(run):
    result = CliRunner().invoke(app, ["report", str(run), "--json"])
    (printed_table,) = json.loads(result.stdout)
    assert {row["name"] for row in printed_table["rows"]} == {"chance", "small warm-up", "small trained"}
    assert not (run / "report.html").exists()


def test_a_wrong_format_and_folders_without_evaluation_are_refused(run, tmp_path):
    with pytest.raises(JigsawError, match="--table: 'word' is not one of markdown, latex, csv, json"):
        printed(paper_tables([run]), "word")
    (run / "evaluation.json").unlink()
    with pytest.raises(JigsawError, match="has not been evaluated yet"):
        paper_tables([run])
    with pytest.raises(JigsawError, match="is not a run folder"):
        paper_tables([tmp_path])
