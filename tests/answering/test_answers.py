"""Generation of completions: media match their placeholders, results are in order, and no vision tokens are sampled."""

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


def row_of(*kinds):
    """A row whose prompt has parts of these kinds; any other kind than image and video is a text."""
    content = [{"type": kind} if kind in ("image", "video") else {"type": "text", "text": kind} for kind in kinds]
    return {"id": "p1", "prompt": [{"role": "user", "content": content}]}


@given(st.integers(0, 4), st.integers(0, 4), st.sampled_from(["image", "video"]))
def test_the_number_of_media_must_equal_the_number_of_placeholders(placeholders, num_media, kind):
    row = row_of(*[kind] * placeholders) | {f"{kind}s": list(range(num_media))}
    if placeholders == num_media:
        assert media_of(row, kind) == row[f"{kind}s"]
        return
    missing, surplus = max(placeholders - num_media, 0), max(num_media - placeholders, 0)
    with pytest.raises(JigsawError, match=f"^puzzle p1: {missing} placeholders without an? {kind}, {surplus} {kind}s"):
        media_of(row, kind)


def test_a_row_without_a_column_of_media_has_none():
    assert media_of(row_of("only words"), "image") == []
    with pytest.raises(JigsawError, match="2 placeholders without an image, 0 images without one"):
        media_of(row_of("image", "image") | {"images": None}, "image")


def test_results_are_in_order_and_have_no_media(model, processor, puzzles):
    rows = [puzzles[i] for i in range(5)]
    solved = solve(model, processor, rows, batch_size=2, max_new_tokens=4)
    assert [one.puzzle["id"] for one in solved] == [row["id"] for row in rows]
    for one in solved:
        assert [type(text) for text in one.completions] == [str]
        assert not {"prompt", "images", "videos"} & one.puzzle.keys()
        assert {"answer", "answer_style", "source", "classes"} <= one.puzzle.keys()


def test_completions_are_greedy_and_do_not_depend_on_the_batch(model, processor, puzzles):
    rows = [puzzles[i] for i in range(4)]
    single = solve(model, processor, rows, batch_size=1, max_new_tokens=4)
    assert solve(model, processor, rows, batch_size=4, max_new_tokens=4) == single


@pytest.mark.parametrize("training", [True, False])
def test_the_training_mode_of_the_model_is_kept_even_after_an_error(model, processor, puzzles, training):
    model.train(training)
    with pytest.raises(JigsawError):
        solve(model, processor, [dict(puzzles[0]) | {"images": []}], max_new_tokens=2)
    assert model.training is training


def test_vision_tokens_are_never_sampled(model, processor, puzzles, monkeypatch):
    """A head that gives the highest logits to vision tokens does not sample them."""
    forbidden = vision_token_ids(processor)
    sampled, sample = [], transformers_engine.sample

    def recording(*args, **options):
        tokens = sample(*args, **options)
        sampled.extend(token for completion in tokens for token in completion)
        return tokens

    def favour(_module, _inputs, logits):
        logits = logits.clone()
        logits[..., forbidden] += 1e4
        return logits

    monkeypatch.setattr(transformers_engine, "sample", recording)
    hook = model.lm_head.register_forward_hook(favour)
    solve(model, processor, [puzzles[0]], max_new_tokens=4)
    hook.remove()
    assert len(sampled) == 4
    assert not set(sampled) & set(forbidden)


# Errors of `jigsaw eval` before it loads a model


@pytest.mark.parametrize("name", ["recipe.yaml", "a file"])
def test_an_evaluation_does_not_overwrite_a_training_run(tmp_path, puzzle_folder, name):
    run = tmp_path / "run"
    if name == "a file":
        run.write_text("x")
    else:
        run.mkdir()
        (run / name).write_text("name: x")
    with pytest.raises(JigsawError, match=r"^--out: .*; name (another|a) folder$"):
        evaluate_checkpoint("no/such/model/needed", puzzle_folder, out=run)


def test_an_evaluation_of_a_checkpoint_writes_all_its_files(checkpoint, puzzle_folder, tmp_path):
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
