"""Breakdown of scores by groups, reasons and places, pass@k and majority votes, against values from enumeration."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jigsaw.answering.answers import AnsweredPuzzle
from jigsaw.evaluation.figures import cell_of, evaluation_of, groups, labels, places, sampled
from jigsaw.evaluation.scoring import score as score_answers
from jigsaw.results.chance import levels_of
from jigsaw.results.sampling import majority_order, pass_at_k
from jigsaw.rewards import Composition

PAPER = Composition(["visual_jigsaw"])


def row(answer, completion, number, *, task="image", grid=None, contrast=None, sample=0):
    return {
        "id": f"p{number}",
        "task": task,
        "source": {"path": f"{number}.jpg"},
        "answer": answer,
        "answer_style": "direct",
        "classes": None,
        "geometry": {"grid": grid} if grid else {},
        "completion": completion,
        "contrast": contrast,
        "sample": sample,
    }


def score(rows, composition):
    """Scored samples of rows, with the samples of one puzzle next to each other."""
    answers = {}
    for one in rows:
        answers.setdefault(one["id"], (one, []))[1].append(one["completion"])
    return score_answers([AnsweredPuzzle(one, texts, one["contrast"]) for one, texts in answers.values()], composition)


def test_groups_are_tasks_numbers_of_pieces_and_thirds_of_difficulty():
    rows = [row([2, 1, 3], "2, 1, 3" if i < 3 else "1, 2, 3", i, contrast=float(i)) for i in range(6)]
    rows += [row([1, 2], "1, 2", 9, task="video")]
    levels = dict(zip([one["id"] for one in rows], levels_of(rows, PAPER), strict=True))
    all_groups = groups(score(rows, PAPER), levels)
    kinds = [(group.task, group.num_pieces, group.difficulty) for group in all_groups]
    assert kinds == [
        ("image", None, None),
        ("image", 3, None),
        ("image", 3, "hard"),
        ("image", 3, "medium"),
        ("image", 3, "easy"),
        ("video", None, None),
        ("video", 2, None),
    ]
    by_kind = dict(zip(kinds, all_groups, strict=True))
    assert by_kind["image", 3, None].estimates["exact"].value == 0.5
    assert by_kind["image", 3, "hard"].estimates["exact"].value == 1.0
    assert by_kind["image", 3, "easy"].estimates["exact"].value == 0.0
    assert by_kind["video", 2, None].estimates["exact"].chance == 0.5
    assert sum(by_kind["image", 3, label].num_puzzles for label in ("hard", "medium", "easy")) == 6


def test_reasons_are_counted():
    texts = ["1, 2", "2, 1", "1, 1", "x", "1"]
    answers = [AnsweredPuzzle(row([1, 2], text, i), [text]) for i, text in enumerate(texts)]
    assert evaluation_of(answers, PAPER).reasons == {"ok": 2, "duplicate": 1, "not_integers": 1, "wrong_count": 1}


def test_the_confusion_matrix_counts_pieces_by_right_and_given_place():
    # By the answer [2, 3, 1], piece 2 belongs at place 0. The order [3, 2, 1] puts piece 3 (of place 1) there.
    (entry,) = places(score([row([2, 3, 1], "3, 2, 1", 0), row([2, 3, 1], "2, 3, 1", 1)], PAPER))
    assert entry.confusion == [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    assert (entry.valid, entry.cells) == (2, None)


def test_corners_edges_and_the_interior_have_separate_scores():
    identity = list(range(1, 10))
    corners_rotated = [3, 2, 9, 4, 5, 6, 1, 8, 7]
    rows = [row(identity, ", ".join(map(str, corners_rotated)), 0, grid=[3, 3]), row(identity, "?", 1, grid=[3, 3])]
    (entry,) = places(score(rows, PAPER))
    values = {name: cell.value for name, cell in entry.cells.items()}
    assert values == {"corner": 0.0, "edge": 0.5, "interior": 0.5}  # the invalid answer counts 0 everywhere
    assert entry.cells["edge"].chance == pytest.approx(1 / 9)
    assert entry.valid == 1


@given(st.integers(2, 6), st.integers(2, 6))
def test_a_grid_has_four_corners(rows, columns):
    kinds = [cell_of(place, (rows, columns)) for place in range(rows * columns)]
    assert kinds.count("corner") == 4
    assert kinds.count("interior") == (rows - 2) * (columns - 2)


# Several completions


@settings(deadline=None)
@given(st.integers(1, 7), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer(samples, data):
    right = data.draw(st.integers(0, samples))
    k = data.draw(st.integers(1, samples))
    draws = list(combinations([True] * right + [False] * (samples - right), k))
    assert pass_at_k(right, samples, k) == pytest.approx(sum(any(draw) for draw in draws) / len(draws))


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.permutations([1, 2, 3, 4])), min_size=1, max_size=7))
def test_the_majority_order_is_the_permutation_with_the_most_votes(orders):
    from itertools import permutations

    voted = majority_order(orders)
    cast = [order for order in orders if order is not None]
    if not cast:
        assert voted is None
        return

    def votes(order):
        return sum(order[place] == vote[place] for vote in cast for place in range(4))

    assert votes(voted) == max(votes(order) for order in permutations([1, 2, 3, 4]))
    if len(cast) == 1:
        assert voted == list(cast[0])


def test_the_majority_order_can_be_right_if_no_single_answer_is():
    answer = [1, 2, 3, 4, 5, 6]
    texts = ["2, 1, 3, 4, 5, 6", "1, 2, 4, 3, 5, 6", "1, 2, 3, 4, 6, 5"]
    results = sampled(score([row(answer, text, 0, sample=i) for i, text in enumerate(texts)], PAPER))
    assert {k: figure.value for k, figure in results.pass_at.items()} == {1: 0.0, 2: 0.0, 3: 0.0}
    assert results.majority["exact"].value == 1.0
    assert results.pass_at[2].chance == pytest.approx(1 - (1 - 1 / 720) ** 2)


# Difficulty


def test_too_few_difficulties_give_no_thirds():
    assert labels([None, 1.0, 2.0]) == [None, None, None]
