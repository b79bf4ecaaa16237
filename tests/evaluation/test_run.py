"""`jigsaw eval` of a checkpoint: resuming, sampling, prompt variants, comparisons and wrong input."""

import json
from dataclasses import replace

import pytest

from jigsaw.answering.generation import Generation, with_model
from jigsaw.answering.store import make_folder
from jigsaw.data import load_puzzles
from jigsaw.errors import JigsawError
from jigsaw.evaluation import evaluate as run_module
from jigsaw.evaluation.evaluate import evaluate_checkpoint, with_prompt_variant


def read_predictions(folder):
    return [json.loads(line) for line in (folder / "predictions" / "model.jsonl").read_text().splitlines()]


class Scripted:
    """An engine that gives the same texts for all rows, records the rows, and may be interrupted."""

    def __init__(self, samples=1, fail_at=None, texts=("2, 1, 4, 3",)):
        self.rows, self.samples, self.fail_at, self.texts = [], samples, fail_at, texts

    def __call__(self, rows):
        if self.fail_at is not None and len(self.rows) >= self.fail_at:
            raise KeyboardInterrupt
        self.rows += [row["id"] for row in rows]
        return [[self.texts[i % len(self.texts)] for i in range(self.samples)] for _ in rows]


@pytest.fixture
def scripted(monkeypatch):
    def use(engine):
        monkeypatch.setattr(run_module, "open_engine", lambda *_, **__: engine)
        return engine

    return use


def test_an_interrupted_evaluation_loses_at_most_one_batch(scripted, puzzle_folder, tmp_path):
    first = scripted(Scripted(fail_at=8))
    with pytest.raises(KeyboardInterrupt):
        evaluate_checkpoint("org/model", puzzle_folder, out=tmp_path, generation=Generation(batch_size=4))
    with (tmp_path / "completions.jsonl").open("a") as file:
        file.write('[{"id": "half a li')  # as a killed process may leave it
    second = scripted(Scripted())
    figures = evaluate_checkpoint("org/model", puzzle_folder, out=tmp_path, generation=Generation(batch_size=4))
    assert len(first.rows) == 8
    assert len(second.rows) == 24 - 8
    assert not set(first.rows) & set(second.rows)
    uninterrupted = evaluate_checkpoint(
        "org/model", puzzle_folder, out=tmp_path / "uninterrupted", generation=Generation(batch_size=4)
    )
    assert figures.sets == uninterrupted.sets
    third = scripted(Scripted())
    again = evaluate_checkpoint("org/model", puzzle_folder, out=tmp_path, generation=Generation(batch_size=24))
    assert again.sets == uninterrupted.sets
    assert third.rows == []


@pytest.mark.parametrize(
    "changed",
    [
        {"generation": Generation(max_new_tokens=5)},
        {"generation": Generation(samples=2)},
        {"generation": Generation(dtype="bfloat16")},
        {"prompt_variant": 1},
    ],
    ids=["max_new_tokens", "samples", "dtype", "prompt_variant"],
)
def test_a_folder_with_completions_of_other_settings_is_refused(scripted, puzzle_folder, tmp_path, changed, request):
    scripted(Scripted())
    evaluate_checkpoint("org/model", puzzle_folder, out=tmp_path)
    with pytest.raises(JigsawError, match=rf"has completions with {request.node.callspec.id} .*; name another folder"):
        evaluate_checkpoint("org/model", puzzle_folder, out=tmp_path, **changed)


def test_sampling_resumes_only_with_the_same_batch_size(scripted, puzzle_folder, tmp_path):
    scripted(Scripted(samples=2))
    sampled = Generation(samples=2, batch_size=4)
    evaluate_checkpoint("org/model", puzzle_folder, out=tmp_path, generation=sampled)
    with pytest.raises(JigsawError, match="has completions with batch_size 4, not 8; name another folder"):
        evaluate_checkpoint("org/model", puzzle_folder, out=tmp_path, generation=replace(sampled, batch_size=8))


def test_a_folder_with_other_files_is_refused_and_unchanged(scripted, puzzle_folder, tmp_path):
    scripted(Scripted())
    (tmp_path / "completions.jsonl").write_text('["mine"]\n')
    with pytest.raises(JigsawError, match="was not written by this command"):
        evaluate_checkpoint("org/model", puzzle_folder, out=tmp_path)
    assert (tmp_path / "completions.jsonl").read_text() == '["mine"]\n'


def test_a_file_as_the_output_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(JigsawError, match=r"--out: .*file is a file; name a folder"):
        make_folder(tmp_path / "file")
    make_folder(tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder").is_dir()


def test_sampled_completions_are_scored_with_pass_at_k(scripted, puzzle_folder, tmp_path):
    scripted(Scripted(samples=3, texts=("2, 1, 4, 3", "1, 2, 3, 4", "x")))
    figures = evaluate_checkpoint("org/model", puzzle_folder, out=tmp_path, generation=Generation(samples=3))
    results = figures.main.model
    assert results.num_puzzles == 24
    assert results.estimates["valid"].value == pytest.approx(2 / 3)
    assert list(results.sampled.pass_at) == [1, 2, 3]
    assert len(read_predictions(tmp_path)) == 72
    assert figures.settings["samples"] == 3


def test_two_models_are_compared_on_the_same_puzzles(scripted, puzzle_folder, tmp_path):
    scripted(Scripted(texts=("x",)))
    evaluate_checkpoint("org/a", puzzle_folder, out=tmp_path / "a")
    scripted(Scripted())
    figures = evaluate_checkpoint("org/b", puzzle_folder, limit=12, against=tmp_path / "a")
    assert figures.main.compared.num_puzzles == 12
    valid = figures.main.compared.changes["valid"]
    assert (valid.value, valid.low, valid.high) == (1.0, 1.0, 1.0)
    assert valid.p_value == pytest.approx(2 / 2**6)  # all six photos are better: 2 of 64 sign flips


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("evaluation.json", None, r"evaluation\.json is missing; evaluate again"),
        ("evaluation.json", '{"exact": {"value": 1}}', "has format 1, this version reads 2; evaluate again with"),
        ("evaluation.json", "[]", "Input should be a dictionary or an instance of EvalLog; evaluate again with"),
        ("predictions/model.jsonl", None, r"model\.jsonl is missing; evaluate again"),
        ("predictions/model.jsonl", "", r"model\.jsonl is empty; evaluate again"),
        ("predictions/model.jsonl", '{"id": "x"}', r"model\.jsonl:1: task: Field required; evaluate again"),
    ],
)
def test_an_invalid_or_older_evaluation_is_refused(scripted, puzzle_folder, tmp_path, file, content, message):
    scripted(Scripted())
    evaluate_checkpoint("org/model", puzzle_folder, out=tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    with pytest.raises(JigsawError, match=message) as error:
        evaluate_checkpoint("org/model", puzzle_folder, against=tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"engine": "vlm"}, "--engine: 'vlm' is none of transformers, vllm"),
        ({"dtype": "half"}, "--dtype: 'half' is none of float32, bfloat16"),
        ({"samples": 2, "temperature": 0.0}, "--temperature: 0.0 is not above 0"),
    ],
)
def test_invalid_generation_settings_are_refused(options, message):
    with pytest.raises(JigsawError, match=message):
        Generation(**options)


def test_a_prompt_variant_that_does_not_exist_is_refused(puzzle_folder, checkpoint):
    with pytest.raises(JigsawError, match="--set prompt_variant: task image has 2 prompt variants"):
        evaluate_checkpoint(checkpoint, puzzle_folder, limit=2, prompt_variant=7)


def test_a_checkpoint_without_a_processor_is_refused(tmp_path, puzzle_folder, checkpoint):
    import shutil

    shutil.copytree(checkpoint, tmp_path / "bare")
    for name in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json", "tokenizer.json"):
        (tmp_path / "bare" / name).unlink(missing_ok=True)
    with pytest.raises(JigsawError, match=r"bare: the image processor is missing .* copy the base model's$"):
        evaluate_checkpoint(str(tmp_path / "bare"), puzzle_folder, limit=2, out=tmp_path / "e")


def test_the_folder_of_an_evaluation_without_completions_can_be_used_again(scripted, tmp_path, puzzle_folder):
    with pytest.raises(JigsawError):
        evaluate_checkpoint(str(tmp_path / "absent"), puzzle_folder, limit=2, out=tmp_path / "e")
    scripted(Scripted())
    assert evaluate_checkpoint("org/model", puzzle_folder, limit=2, out=tmp_path / "e").main.model.num_puzzles == 2


def test_missing_images_are_an_error_and_completions_are_kept(scripted, photos, puzzle_folder, tmp_path):
    import shutil

    moved = tmp_path / "photos"
    shutil.copytree(photos, moved)
    rows = load_puzzles(puzzle_folder).with_format(None)
    last = rows[len(rows) - 1]["source"]["path"]
    (moved / last).unlink()
    scripted(Scripted())
    with pytest.raises(JigsawError, match=f"{last} cannot be read"):
        evaluate_checkpoint(
            "org/model", puzzle_folder, out=tmp_path / "e", generation=Generation(batch_size=1), source_root=moved
        )
    assert len((tmp_path / "e" / "completions.jsonl").read_text().splitlines()) > 1


def test_sampling_is_seeded_and_differs_from_greedy(model, processor, puzzles):
    rows = [puzzles[i] for i in range(3)]
    generation = Generation(max_new_tokens=8, samples=4)
    first = with_model(model, processor, generation)(rows)
    assert [len(texts) for texts in first] == [4, 4, 4]
    assert with_model(model, processor, generation)(rows) == first
    assert len({text for texts in first for text in texts}) > 1
    other = with_model(model, processor, Generation(max_new_tokens=8, samples=4, seed=1))(rows)
    assert other != first


def test_the_rest_of_a_batch_is_sampled_as_in_the_complete_batch(model, processor, puzzles):
    """An evaluation that stopped within a batch gives the remaining puzzles the same texts as without the stop."""
    engine = with_model(model, processor, Generation(max_new_tokens=8, samples=3))
    rows = [puzzles[i] for i in range(5)]
    complete = engine(rows)
    assert len({text for texts in complete for text in texts}) > 5, "samples differ"
    assert engine(rows[2:]) == complete[2:]
    assert engine([rows[4], rows[0]]) == [complete[4], complete[0]]


@pytest.mark.parametrize("samples", [1, 4])
def test_generation_settings_of_the_checkpoint_are_not_used(model, processor, puzzles, samples, monkeypatch):
    """The `generation_config.json` of Qwen2.5-VL penalises repetition; vLLM and training do not."""
    rows, generation = [puzzles[0], puzzles[1]], Generation(max_new_tokens=8, samples=samples)
    plain = with_model(model, processor, generation)(rows)
    checkpoint_settings = {
        "repetition_penalty": 5.0,
        "no_repeat_ngram_size": 1,
        "top_k": 1,
        "temperature": 0.01,
        "do_sample": True,
    }
    for name, value in checkpoint_settings.items():
        monkeypatch.setattr(model.generation_config, name, value)
    assert with_model(model, processor, generation)(rows) == plain


@pytest.mark.parametrize("number", [1, 2])
def test_a_prompt_variant_keeps_the_media_and_the_answer_format(puzzles, number):
    row = puzzles[0]
    other = with_prompt_variant(row, number)
    varied, original = ([part for turn in each["prompt"] for part in turn["content"]] for each in (other, row))
    assert [part["type"] for part in varied if part["type"] != "text"] == ["image"] * 4
    assert "Answer with the 4 numbers only" in varied[-1]["text"]
    assert varied[-1]["text"] != original[-1]["text"]
    assert {key: other[key] for key in ("answer", "id")} == {key: row[key] for key in ("answer", "id")}
    numbers = [part["text"] for part in varied if part["type"] == "text"][1:-1]
    assert [str(number + 1) in label for number, label in enumerate(numbers)] == [True] * 4


@pytest.mark.slow
def test_vllm_and_transformers_give_the_same_greedy_answers(puzzle_folder, checkpoint, tmp_path):
    pytest.importorskip("vllm")
    for engine in ("transformers", "vllm"):
        generation = Generation(engine, max_new_tokens=12)
        evaluate_checkpoint(checkpoint, puzzle_folder, generation=generation, out=tmp_path / engine)
    one, other = (
        [row["completion"] for row in read_predictions(tmp_path / engine)] for engine in ("transformers", "vllm")
    )
    assert one == other
    assert any(one)
