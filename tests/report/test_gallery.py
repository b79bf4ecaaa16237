"""The gallery: tiles are in the order of the answer, marks agree with the scores, and puzzles are a fair sample."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from run_folders import page_of, samples, swapped

from jigsaw.data import load_puzzles
from jigsaw.evaluation.log import Sample, write_samples
from jigsaw.report.gallery import build_gallery, outcome_of
from jigsaw.report.runs import read_runs
from jigsaw.report.selection import choose, extremes
from jigsaw.tasks import Clip


def pixels(uri: str) -> np.ndarray[Any, Any]:
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def place(mosaic: np.ndarray[Any, Any], number: int) -> np.ndarray[Any, Any]:
    """The tile at a place of a 2x3 mosaic of 40-pixel tiles."""
    top, left = number // 3 * 40, number % 3 * 40
    return mosaic[top : top + 40, left : left + 40]


def are_similar(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    return float(np.abs(one - other).mean()) < 3  # JPEG


def test_the_tile_at_each_place_follows_the_order(run, puzzle_set):
    rows = {row["id"]: row for row in load_puzzles(puzzle_set)}
    [read] = read_runs([run])
    gallery = build_gallery(read, 24)
    chosen = choose(read.samples, 24, outcome_of, each=True)
    assert len(gallery.cards) == len(chosen) == 8
    for card, item in zip(gallery.cards, chosen, strict=True):
        tiles = [np.asarray(tile).astype(int) for tile in rows[item.id]["images"]]
        assert (card.rows, card.columns) == (2, 3)
        shown, truth = pixels(card.shown[0].uri), pixels(card.truth.uri)
        for number in range(6):
            assert are_similar(place(shown, number), tiles[number])
            assert are_similar(place(truth, number), tiles[item.answer[number] - 1])
        if item.order is None:
            assert card.last.picture is None
            assert card.last.order == []
            continue
        arranged = pixels(card.last.picture.uri)
        for number, slot in enumerate(card.last.order):
            assert slot.piece == item.order[number]
            assert slot.right == (item.order[number] == item.answer[number])
            assert are_similar(place(arranged, number), tiles[item.order[number] - 1])
            assert slot.right == are_similar(place(arranged, number), place(truth, number))
    # The tiles in the right order give the photo, a gradient from left to right and from top to bottom.
    reds = [place(truth, number)[..., 0].mean() for number in range(3)]
    assert reds == sorted(reds)


def sample_of(number: int, source: str, kind: str) -> Sample:
    order = {"right": [1, 2, 3], "partly": [1, 3, 2], "wrong": [2, 3, 1], "invalid": None}[kind]
    correct = {"right": 1.0, "partly": 1 / 3}.get(kind, 0.0)
    return Sample(
        id=f"{number:04}",
        task="image",
        source=source,
        sample=0,
        answer=[1, 2, 3],
        classes=None,
        grid=None,
        contrast=None,
        completion="",
        order=order,
        reason="ok" if order else "duplicate",
        exact=float(kind == "right"),
        place_accuracy=correct,
        neighbor_accuracy=correct,
        kendall_tau=correct,
        valid=float(order is not None),
        format=float(order is not None),
        reward=correct,
    )


def test_the_gallery_has_each_outcome_in_proportion():
    kinds = ["right"] * 30 + ["partly"] * 50 + ["wrong"] * 19 + ["invalid"]
    items = [sample_of(number, f"photo-{number % 10}", kind) for number, kind in enumerate(kinds)]
    chosen = choose(items, 20, outcome_of, each=True)
    counts = {
        kind: sum(outcome_of(item) == kind for item in chosen) for kind in ("right", "partly", "wrong", "invalid")
    }
    assert counts == {"right": 6, "partly": 9, "wrong": 4, "invalid": 1}
    assert choose(list(reversed(items)), 20, outcome_of, each=True) == chosen
    assert len(choose(items, 1000, outcome_of)) == 100
    assert choose([], 5, outcome_of) == []


def test_the_worst_and_the_best_are_those_of_lowest_and_highest_reward():
    kinds = ["right", "partly", "wrong", "right", "wrong", "partly", "partly", "right"]
    items = [sample_of(number, f"photo-{number % 2}", kind) for number, kind in enumerate(kinds)]
    worst, best = extremes(items, 3)
    assert {item.id for item in best} == {"0000", "0003", "0007"}
    assert {item.id for item in worst[:2]} == {"0002", "0004"}
    assert outcome_of(worst[2]) == "partly"
    assert extremes(list(reversed(items)), 3) == (worst, best)


def test_worst_and_best_puzzles_differ_and_are_ranked_by_the_mean_of_their_answers():
    always, once, never = (sample_of(number, "photo", "right") for number in range(3))
    wrong = [replace(sample_of(number, "photo", "wrong"), sample=1) for number in range(3)]
    samples = [always, replace(always, sample=1), once, wrong[1], replace(never, reward=0.0, exact=0.0), wrong[2]]
    worst, best = extremes(samples, 2)
    assert [item.id for item in best] == ["0000", "0001"]
    assert [item.id for item in worst] == ["0002"]
    assert extremes([always], 3) == ([], [always])
    assert extremes([], 3) == ([], [])


def test_a_page_with_several_answers_per_puzzle_shows_every_puzzle_once(run):
    path = run / "predictions" / "model.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row | {"sample": number}) + "\n" for row in rows for number in range(3)))
    [read] = read_runs([run])
    gallery = build_gallery(read, 24)
    assert len(gallery.cards) == sum(gallery.total.values()) == 8
    assert {card.samples.split(" samples")[0] for card in gallery.cards} == {"3 of 3", "0 of 3"}


def test_identical_pieces_are_marked_as_the_scores_count_them(run, puzzle_set, monkeypatch):
    [read] = read_runs([run])
    items = [replace(item, classes=[0] * 6) for item in samples(puzzle_set, [swapped])[:2]]
    row = {"images": [Image.new("RGB", (40, 40))] * 6, "geometry": {"grid": [2, 3]}}
    rows = {items[0].id: row | {"answer": items[0].answer}, items[1].id: row | {"answer": []}}
    monkeypatch.setattr("jigsaw.data.load_puzzles", lambda folder: StoredSet(rows))
    cards = build_gallery(with_predictions(read, items), 5).cards
    assert sorted(card.missing for card in cards) == ["", "the puzzle is not the one that was answered"]
    assert [slot.right for card in cards for slot in card.last.order] == [True] * 12


class StoredSet:
    """A replacement for the result of `load_puzzles` with the rows of a test."""

    def __init__(self, rows: dict[str, dict[str, Any]]) -> None:
        self._rows = rows

    def with_format(self, _: None) -> dict[str, list[str]]:
        return {"id": list(self._rows)}

    def __getitem__(self, number: int) -> dict[str, Any]:
        return list(self._rows.values())[number]


def with_predictions(run: Any, items: list[Sample]) -> Any:
    return replace(run, samples=items, before={})


def one_marked_image() -> dict[str, Any]:
    return {"images": [Image.new("RGB", (640, 480), "olive")], "geometry": {"points": []}}


def three_clips() -> dict[str, Any]:
    frames = np.zeros((5, 24, 32, 3), dtype=np.uint8)
    return {"videos": [Clip(frames=frames, times=np.arange(5.0), fps=1.0)] * 3, "geometry": {"spans": []}}


@pytest.mark.parametrize(("media", "pictures"), [(one_marked_image, 1), (three_clips, 3)])
def test_puzzles_without_a_grid_show_their_media_and_both_orders(run, monkeypatch, media, pictures):
    item = sample_of(0, "scene", "partly")
    rows = {item.id: media() | {"answer": [1, 2, 3], "classes": None}}
    monkeypatch.setattr("jigsaw.data.load_puzzles", lambda folder: StoredSet(rows))
    write_samples(run / "predictions" / "model.jsonl", [item])
    (run / "predictions" / "warmup.jsonl").unlink()
    without_warmup(run)
    [read] = read_runs([run])
    [card] = build_gallery(read, 5).cards
    assert card.truth is None
    assert len(card.shown) == pictures
    assert [slot.right for slot in card.last.order] == [True, False, False]
    page = page_of(run)
    assert (
        '<span class="chip good">1 ✓</span><span class="chip bad">3 ✗</span><span class="chip bad">2 ✗</span>' in page
    )
    assert '<span class="chip">1</span><span class="chip">2</span><span class="chip">3</span>' in page


def without_warmup(run: Path) -> None:
    """Removes the evaluation of the warm-up from the run."""
    stored = json.loads((run / "evaluation.json").read_text())
    stored["sets"][0] |= {"warmup": None, "compared": None}
    (run / "evaluation.json").write_text(json.dumps(stored))


def test_pictures_are_not_larger_than_those_of_the_model(run):
    [read] = read_runs([run])
    assert {card.truth.width for card in build_gallery(read, 24).cards} == {120}
