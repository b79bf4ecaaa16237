"""The completions that a run logs: the first of each puzzle with its scores, which are not computed again."""

import json

from jigsaw.rewards import Composition
from jigsaw.training.completions import RecordedComposition

ROWS = {"id": ["a", "a", "b", "b", "c"], "answer": [[2, 1]] * 5, "task": ["image"] * 5}
TEXTS = [[{"role": "assistant", "content": text}] for text in ("2, 1", "1, 2", "x", "2, 1", "2, 1")]


def test_the_first_completion_of_each_puzzle_is_logged_with_its_scores(tmp_path):
    composition = RecordedComposition(["visual_jigsaw"], ["exact"], keep=2)
    composition.record(TEXTS, ROWS, [1.0, 0.0, None, 1.0, 1.0], {"exact": [1.0, 0.0, 0.0, 1.0, 1.0]})
    write = composition.writer(tmp_path / "completions.jsonl", every=2)
    write(1)
    assert write(2) == []
    kept = [json.loads(line) for line in (tmp_path / "completions.jsonl").read_text().splitlines()]
    shared = {"step": 1, "task": "image", "answer": "2, 1"}
    assert kept == [
        shared | {"id": "a", "completion": "2, 1", "total": 1.0, "exact": 1.0},
        shared | {"id": "b", "completion": "x", "total": None, "exact": 0.0},
    ]


def test_no_completion_is_logged_with_keep_0(tmp_path):
    composition = RecordedComposition(["visual_jigsaw"], [], keep=0)
    composition.record(TEXTS, ROWS, [0.0] * 5, {})
    assert composition.writer(tmp_path / "completions.jsonl", every=1)(1) == []


def test_a_reward_that_counts_tokens_uses_the_tokenizer_if_there_are_no_token_ids():
    composition = Composition([{"use": "length", "args": {"minimum": 4, "maximum": 8}}])
    composition.tokenize = lambda text: [0] * len(text)
    assert composition.score(["abc", "abcdefgh"], {"answer": [[2, 1]] * 2}) == {"length": [0.75, 1.0]}
    columns = {"answer": [[2, 1]], "completion_ids": [[1, 2]]}
    assert composition.score(["abc"], columns) == {"length": [0.5]}
