"""Scoring: from an answered puzzle to one `Sample` for each of its completions.

In: `AnsweredPuzzle`s and rewards. Out: samples with the parsed answer, its scores and the value of each reward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jigsaw.answering.answers import AnsweredPuzzle
from jigsaw.errors import JigsawError
from jigsaw.evaluation.log import Sample
from jigsaw.results.chance import rewards_of
from jigsaw.rewards import Composition, RewardError, exact, grid_of, kendall_tau, neighbor_accuracy, place_accuracy
from jigsaw.rewards.answers import ORDER, AnswerKind, args_of, kind_of_row, written


def score(answers: Sequence[AnsweredPuzzle], composition: Composition) -> list[Sample]:
    """The scored samples of answers, puzzle by puzzle.

    Raises:
        JigsawError: a reward fails, or a puzzle is broken.
    """
    puzzles = [one.puzzle for one in answers for _ in one.completions]
    texts = [text for one in answers for text in one.completions]
    try:
        values = rewards_of(puzzles, texts, composition)
        totals = composition.total(values)
        rows = [(one, number) for one in answers for number in range(len(one.completions))]
        return [
            _sample(*row, total or 0.0, {name: column[at] for name, column in values.items()})
            for at, (row, total) in enumerate(zip(rows, totals, strict=True))
        ]
    except RewardError as error:
        raise JigsawError(str(error)) from error


def _sample(answered: AnsweredPuzzle, number: int, reward: float, rewards: dict[str, float | None]) -> Sample:
    puzzle, text = answered.puzzle, answered.completions[number]
    kind = kind_of_row(puzzle)
    parsed = kind.parse(text, puzzle["answer_style"], think_prefilled=bool(puzzle.get("think_prefilled")))
    scores = _order_scores(puzzle, parsed.value) if kind.name == ORDER else _other_scores(puzzle, kind, parsed.value)
    return Sample(
        id=puzzle["id"],
        task=puzzle["task"],
        source=puzzle["source"]["path"],
        sample=number,
        contrast=answered.contrast,
        completion=text.encode("utf-8", "replace").decode(),  # lone surrogates cannot be written to a text file
        reason=parsed.reason,
        valid=float(parsed.reason == "ok"),
        format=float(parsed.well_formed),
        reward=reward,
        rewards=rewards,
        **scores,
    )


def _order_scores(puzzle: Mapping[str, Any], order: Any) -> dict[str, Any]:
    """The fields of a sample whose answer is an order."""
    answer, classes = list(puzzle["answer"]), puzzle.get("classes")
    grid = grid_of(puzzle.get("geometry"), len(answer))
    return {
        "answer": answer,
        "classes": None if classes is None else list(classes),
        "grid": grid,
        "order": order,
        "exact": exact(order, answer, classes),
        "place_accuracy": place_accuracy(order, answer, classes),
        "neighbor_accuracy": neighbor_accuracy(order, answer, classes, grid=grid),
        "kendall_tau": kendall_tau(order, answer, classes),
    }


def _other_scores(puzzle: Mapping[str, Any], kind: AnswerKind, value: Any) -> dict[str, Any]:
    """The fields of a sample whose answer is of another kind."""
    return {
        "answer": puzzle["answer"],
        "answer_kind": kind.name,
        "answer_args": args_of(puzzle.get("answer_args")),
        "value": None if value is None else written(value),
        "exact": float(kind.is_right(value, puzzle["answer"])),
    }
