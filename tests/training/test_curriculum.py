"""The curriculum: shares per task, static stages, adaptive preferences, and resuming from a saved state."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from jigsaw.config.schema import CurriculumSection
from jigsaw.errors import JigsawError
from jigsaw.training.curriculum import Curriculum


def puzzles(task: str, *pieces: int, each: int = 10):
    import datasets

    count = [size for size in pieces for _ in range(each)]
    ids = [f"{task}-{size}-{number % each}" for number, size in enumerate(count)]
    return datasets.Dataset.from_dict({"id": ids, "task": [task] * len(count), "num_pieces": count})


SETS = [puzzles("image", 4, 9), puzzles("video", 3, each=5)]


def rows(curriculum: Curriculum, count: int, **options) -> list[dict[str, object]]:
    return [puzzles[row] for puzzles, row in curriculum.choose(count, **options)]


def count_buckets(curriculum: Curriculum, count: int = 4000, **options) -> Counter[tuple[str, int]]:
    chosen = (rows(curriculum, 1, **options)[0] for _ in range(count))
    return Counter((row["task"], row["num_pieces"]) for row in chosen)


def test_the_share_of_a_task_is_its_weight_for_any_preference():
    curriculum = Curriculum(SETS, [3.0, 1.0], CurriculumSection(mode="adaptive"))
    assert curriculum.shares() == pytest.approx({("image", 4): 0.375, ("image", 9): 0.375, ("video", 3): 0.25})
    curriculum.update([(("image", 9), False)] * 500)
    curriculum.update([(("image", 4), True), (("video", 3), False)] * 20)
    shares = curriculum.shares()
    assert shares[("video", 3)] == pytest.approx(0.25)
    assert shares[("image", 4)] == pytest.approx(0.75 / 1.1)  # 9 pieces keep the minimum share
    assert sum(shares.values()) == pytest.approx(1)
    counts = count_buckets(curriculum)
    for bucket, share in shares.items():
        assert counts[bucket] / 4000 == pytest.approx(share, abs=0.03)


def test_a_bucket_with_informative_groups_again_gets_its_share_back():
    curriculum = Curriculum(SETS[:1], [1.0], CurriculumSection(mode="adaptive"))
    curriculum.update([(("image", 9), False)] * 500)
    low = curriculum.shares()[("image", 9)]
    curriculum.update([(("image", 9), True)] * 500)
    assert low < 0.1 < 0.4 < curriculum.shares()[("image", 9)]


def test_static_stages_change_with_the_progress():
    stages = [{"until": 0.3, "pieces": [4], "task": "image"}, {"until": 0.6, "pieces": [9], "task": "image"}]
    curriculum = Curriculum(SETS, [1.0, 1.0], CurriculumSection(mode="static", stages=stages))
    assert count_buckets(curriculum, 300, progress=0.29).keys() == {("image", 4), ("video", 3)}
    assert count_buckets(curriculum, 300, progress=0.3).keys() == {("image", 9), ("video", 3)}
    assert count_buckets(curriculum, 300, progress=0.6).keys() == {("image", 4), ("image", 9), ("video", 3)}
    assert curriculum.shares(0.1)[("image", 4)] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"until": 0.3, "pieces": [16], "task": "image"}, r"stages\[0\].*16 pieces: image puzzles have 4, 9"),
        ({"until": 0.3, "pieces": [4]}, r"no video puzzle has 4 pieces: video puzzles have 3"),
        ({"until": 0.3, "pieces": [6], "task": "depth"}, r"there are no depth sets"),
    ],
)
def test_a_stage_without_puzzles_is_refused(stage, message):
    with pytest.raises(JigsawError, match=message):
        Curriculum(SETS, [1.0, 1.0], CurriculumSection(mode="static", stages=[stage]))


@pytest.mark.parametrize(
    "section",
    [
        {"mode": "static"},
        {"mode": "adaptive", "stages": [{"until": 0.5, "pieces": [4]}]},
        {"mode": "static", "stages": [{"until": 0.5, "pieces": [4]}, {"until": 0.2, "pieces": [9]}]},
        {"mode": "static", "stages": [{"until": 0.5, "pieces": []}]},
    ],
)
def test_contradictory_settings_are_refused(section):
    with pytest.raises(ValidationError):
        CurriculumSection(**section)


def test_every_row_is_chosen_once_before_any_row_is_repeated():
    curriculum = Curriculum([puzzles("image", 4)], [1.0], CurriculumSection())
    ids = [row["id"] for row in rows(curriculum, 10)]
    assert len(set(ids)) == 10
    again = [row["id"] for row in rows(curriculum, 10)]
    assert sorted(again) == sorted(ids) != again
    assert again != ids


def test_rows_to_avoid_are_not_chosen():
    curriculum = Curriculum([puzzles("image", 4)], [1.0], CurriculumSection())
    avoided = [f"image-4-{number}" for number in range(8)]
    assert {row["id"] for row in rows(curriculum, 5, avoid=avoided)} == {"image-4-8", "image-4-9"}


def test_a_curriculum_with_a_loaded_state_chooses_the_same_rows():
    first = Curriculum(SETS, [1.0, 1.0], CurriculumSection(mode="adaptive"), seed=3)
    rows(first, 7)
    first.update([(("image", 4), False), (("video", 3), True)])
    state = first.state()
    second = Curriculum(SETS, [1.0, 1.0], CurriculumSection(mode="adaptive"), seed=3)
    second.load_state(state)
    assert rows(first, 9) == rows(second, 9)
    assert first.state() == second.state() != state
    other = Curriculum(SETS[:1], [1.0], CurriculumSection(mode="adaptive"), seed=3)
    with pytest.raises(JigsawError, match="other puzzle sets"):
        other.load_state(state)
