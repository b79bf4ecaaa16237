"""Asking a model: every medium reaches its placeholder, completions come back in order, media are never made up."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jigsaw.answering.answers import answer_all
from jigsaw.answering.generation import Generation, with_model
from jigsaw.engines import transformers as transformers_engine
from jigsaw.errors import JigsawError
from jigsaw.evaluation.evaluate import evaluate_checkpoint
from jigsaw.evaluation.log import read_log
from jigsaw.models.load import vision_token_ids
from jigsaw.models.prompts import media_of


def solve(model, processor, rows, *, batch_size=64, max_new_tokens):
    return answer_all(with_model(model, processor, Generation(max_new_tokens=max_new_tokens)), rows, batch_size)


def asked(*kinds):
    """A row whose prompt has parts of these kinds; a text for anything that is no medium."""
    content = [{"type": kind} if kind in ("image", "video") else {"type": "text", "text": kind} for kind in kinds]
    return {"id": "p1", "prompt": [{"role": "user", "content": content}]}


@given(st.integers(0, 4), st.integers(0, 4), st.sampled_from(["image", "video"]))
def test_a_number_of_media_other_than_that_of_placeholders_is_an_error(placeholders, given_media, kind):
    row = asked(*[kind] * placeholders) | {f"{kind}s": list(range(given_media))}
    if placeholders == given_media:
        assert media_of(row, kind) == row[f"{kind}s"]
        return
    missing, left = max(placeholders - given_media, 0), max(given_media - placeholders, 0)
    with pytest.raises(JigsawError, match=f"^puzzle p1: {missing} placeholders without an? {kind}, {left} {kind}s"):
        media_of(row, kind)


def test_a_row_without_a_column_of_media_has_none():
    assert media_of(asked("only words"), "image") == []
    with pytest.raises(JigsawError, match="2 placeholders without an image, 0 images without one"):
        media_of(asked("image", "image") | {"images": None}, "image")


def test_rows_come_back_in_order_without_their_pixels(model, processor, puzzles):
    rows = [puzzles[i] for i in range(5)]
    solved = solve(model, processor, rows, batch_size=2, max_new_tokens=4)
    assert [one.puzzle["id"] for one in solved] == [row["id"] for row in rows]
    for one in solved:
        assert [type(text) for text in one.completions] == [str]
        assert not {"prompt", "images", "videos"} & one.puzzle.keys()
        assert {"answer", "answer_style", "source", "classes"} <= one.puzzle.keys()


def test_completions_are_greedy_and_do_not_depend_on_the_batch(model, processor, puzzles):
    rows = [puzzles[i] for i in range(4)]
    alone = solve(model, processor, rows, batch_size=1, max_new_tokens=4)
    assert solve(model, processor, rows, batch_size=4, max_new_tokens=4) == alone


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_left_as_found_even_after_an_error(model, processor, puzzles, training):
    model.train(training)
    with pytest.raises(JigsawError):
        solve(model, processor, [dict(puzzles[0]) | {"images": []}], max_new_tokens=2)
    assert model.training is training


def test_a_model_that_wants_nothing_but_vision_tokens_cannot_write_them(model, processor, puzzles, monkeypatch):
    """Given a head that favours media tokens above all, when it answers, then none of them is in the completion."""
    forbidden = vision_token_ids(processor)
    seen, sample = [], transformers_engine.sample

    def watched(*given, **named):
        tokens = sample(*given, **named)
        seen.extend(token for completion in tokens for token in completion)
        return tokens

    def favour(_module, _inputs, logits):
        logits = logits.clone()
        logits[..., forbidden] += 1e4
        return logits

    monkeypatch.setattr(transformers_engine, "sample", watched)
    hook = model.lm_head.register_forward_hook(favour)
    solve(model, processor, [puzzles[0]], max_new_tokens=4)
    hook.remove()
    assert len(seen) == 4
    assert not set(seen) & set(forbidden)


# `jigsaw eval` refuses what it can before it opens a model


@pytest.mark.parametrize("name", ["recipe.yaml", "a file"])
def test_the_figures_of_a_training_run_are_not_written_over(tmp_path, puzzle_folder, name):
    run = tmp_path / "run"
    if name == "a file":
        run.write_text("x")
    else:
        run.mkdir()
        (run / name).write_text("name: x")
    with pytest.raises(JigsawError, match=r"^--out: .*; name (another|a) folder$"):
        evaluate_checkpoint("no/such/model/needed", puzzle_folder, out=run)


def test_an_evaluation_of_a_checkpoint_is_written_whole(checkpoint, puzzle_folder, tmp_path):
    log = evaluate_checkpoint(
        checkpoint, puzzle_folder, out=tmp_path / "e", limit=6, generation=Generation(max_new_tokens=4)
    )
    assert log.main.model.num_puzzles == 6
    names = {"completions.jsonl", "evaluation.json", "predictions"}
    assert {path.name for path in (tmp_path / "e").iterdir()} == names
    assert read_log(tmp_path / "e") == log
    lines = (tmp_path / "e" / "predictions" / "model.jsonl").read_text().splitlines()
    places = [json.loads(line)["place_accuracy"] for line in lines]
    assert sum(places) / 6 == pytest.approx(log.main.model.estimates["place_accuracy"].value)
