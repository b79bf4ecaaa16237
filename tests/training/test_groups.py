"""Groups that teach nothing give way to others, in step on every process, and never for ever."""

from __future__ import annotations

import warnings
from threading import Barrier, Thread

import pytest

from jigsaw.training.groups import PATIENCE, ConstantRewardsWarning, DynamicSampling, Group


def group(*totals: float | None) -> Group:
    return Group({"id": str(totals)}, [[1]] * len(totals), totals=list(totals))


INFORMATIVE, CONSTANT = group(0.2, 1.0), group(0.2, 0.2)


def supply(*groups: Group):
    """Fresh groups in the given order, and how many were asked for each time."""
    rest, asked = list(groups), []

    def fresh(count: int) -> list[Group]:
        asked.append(count)
        found, rest[:count] = rest[:count], []
        return found

    return fresh, asked


@pytest.mark.parametrize(
    ("totals", "dead"),
    [
        ((0.2, 0.2, 0.2), True),
        ((0.15, 0.2), False),  # partial credit: a small spread teaches
        ((0.1 + 0.2, 0.3), True),  # equal but for rounding
        ((None, 0.2), True),
        ((None, None), True),
        ((None, 0.2, 1.2), False),
        ((1.2, 1.2), True),
    ],
)
def test_a_group_is_judged_by_its_spread(totals, dead):
    assert group(*totals).zero_variance is dead


def test_zero_variance_groups_are_replaced_by_informative_ones():
    other = group(0.0, 0.5)
    fresh, asked = supply(CONSTANT, other, INFORMATIVE)
    outcome = DynamicSampling(3).replace([CONSTANT, INFORMATIVE, CONSTANT], fresh)
    assert outcome.groups == [other, INFORMATIVE, INFORMATIVE]
    assert asked == [2, 1]
    assert (outcome.zero_variance, outcome.replaced, outcome.remaining) == pytest.approx((2 / 3, 2 / 3, 0))
    assert len(outcome.drawn) == 6


def test_what_attempts_do_not_replace_stays():
    fresh, asked = supply(*[CONSTANT] * 9, INFORMATIVE)
    outcome = DynamicSampling(2).replace([CONSTANT, INFORMATIVE], fresh)
    assert outcome.groups == [CONSTANT, INFORMATIVE]
    assert asked == [1, 1]
    assert (outcome.zero_variance, outcome.replaced, outcome.remaining) == (0.5, 0, 0.5)


def test_a_supply_that_runs_dry_is_no_error():
    outcome = DynamicSampling(3).replace([CONSTANT, CONSTANT], supply()[0])
    assert outcome.remaining == 1


def test_constant_rewards_end_in_a_named_warning_and_no_more_attempts():
    sampling = DynamicSampling(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(PATIENCE - 1):
            sampling.replace([CONSTANT], supply(CONSTANT, CONSTANT)[0])
    with pytest.warns(ConstantRewardsWarning, match=r"equal in every group, also after 2 resamples"):
        sampling.replace([CONSTANT], supply(CONSTANT, CONSTANT)[0])
    fresh, asked = supply(CONSTANT, CONSTANT)
    sampling.replace([CONSTANT], fresh)
    assert asked == []
    sampling.replace([INFORMATIVE, CONSTANT], fresh)  # one that teaches: attempts are worth it again
    assert asked


def test_processes_make_the_same_rounds():
    """Given zero-variance groups on one of two processes, when they are replaced, then both ask in every round."""
    barrier, counts, totals = Barrier(2), [0, 0], {}

    def run(rank: int, groups: list[Group], fresh) -> None:
        def anywhere(count: int) -> int:
            counts[rank] = count
            barrier.wait(5)
            total = sum(counts)
            barrier.wait(5)
            return total

        totals[rank] = DynamicSampling(3).replace(groups, fresh, anywhere)

    (first, asked), (second, idle) = supply(CONSTANT, INFORMATIVE), supply()
    threads = [
        Thread(target=run, args=(0, [CONSTANT, INFORMATIVE], first)),
        Thread(target=run, args=(1, [INFORMATIVE, INFORMATIVE], second)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (asked, idle) == ([1, 1], [0, 0])
    assert totals[0].remaining == totals[1].remaining == 0
