"""Dynamic sampling: zero-variance groups are replaced, in the same rounds on every process, with limited attempts."""

from __future__ import annotations

import warnings
from threading import Barrier, Thread

import pytest

from jigsaw.training.groups import PATIENCE, ConstantRewardsWarning, DynamicSampling, Group


def group(*totals: float | None) -> Group:
    return Group({"id": str(totals)}, [[1]] * len(totals), totals=list(totals))


INFORMATIVE, CONSTANT = group(0.2, 1.0), group(0.2, 0.2)


def supply(*groups: Group):
    """Returns a function that supplies the groups in order, and the list of the requested counts."""
    rest, requested = list(groups), []

    def fresh(count: int) -> list[Group]:
        requested.append(count)
        supplied, rest[:count] = rest[:count], []
        return supplied

    return fresh, requested


@pytest.mark.parametrize(
    ("totals", "zero_variance"),
    [
        ((0.2, 0.2, 0.2), True),
        ((0.15, 0.2), False),  # partial credit: a small difference is informative
        ((0.1 + 0.2, 0.3), True),  # equal except for rounding
        ((None, 0.2), True),
        ((None, None), True),
        ((None, 0.2, 1.2), False),
        ((1.2, 1.2), True),
    ],
)
def test_a_group_has_zero_variance_if_its_rewards_are_equal(totals, zero_variance):
    assert group(*totals).zero_variance is zero_variance


def test_zero_variance_groups_are_replaced_by_informative_ones():
    other = group(0.0, 0.5)
    fresh, requested = supply(CONSTANT, other, INFORMATIVE)
    outcome = DynamicSampling(3).replace([CONSTANT, INFORMATIVE, CONSTANT], fresh)
    assert outcome.groups == [other, INFORMATIVE, INFORMATIVE]
    assert requested == [2, 1]
    assert (outcome.zero_variance, outcome.replaced, outcome.remaining) == pytest.approx((2 / 3, 2 / 3, 0))
    assert len(outcome.drawn) == 6


def test_a_group_is_kept_if_the_last_attempt_does_not_replace_it():
    fresh, requested = supply(*[CONSTANT] * 9, INFORMATIVE)
    outcome = DynamicSampling(2).replace([CONSTANT, INFORMATIVE], fresh)
    assert outcome.groups == [CONSTANT, INFORMATIVE]
    assert requested == [1, 1]
    assert (outcome.zero_variance, outcome.replaced, outcome.remaining) == (0.5, 0, 0.5)


def test_an_exhausted_supply_of_groups_is_not_an_error():
    outcome = DynamicSampling(3).replace([CONSTANT, CONSTANT], supply()[0])
    assert outcome.remaining == 1


def test_constant_rewards_give_a_warning_and_stop_further_attempts():
    sampling = DynamicSampling(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(PATIENCE - 1):
            sampling.replace([CONSTANT], supply(CONSTANT, CONSTANT)[0])
    with pytest.warns(ConstantRewardsWarning, match=r"equal in every group, also after 2 resamples"):
        sampling.replace([CONSTANT], supply(CONSTANT, CONSTANT)[0])
    fresh, requested = supply(CONSTANT, CONSTANT)
    sampling.replace([CONSTANT], fresh)
    assert requested == []
    sampling.replace([INFORMATIVE, CONSTANT], fresh)  # after an informative group, attempts are made again
    assert requested


def test_all_processes_make_the_same_number_of_rounds():
    """Given zero-variance groups on one of two processes, both processes take part in every round."""
    barrier, counts, totals = Barrier(2), [0, 0], {}

    def run(rank: int, groups: list[Group], fresh) -> None:
        def anywhere(count: int) -> int:
            counts[rank] = count
            barrier.wait(5)
            total = sum(counts)
            barrier.wait(5)
            return total

        totals[rank] = DynamicSampling(3).replace(groups, fresh, anywhere)

    (first, requested), (second, idle) = supply(CONSTANT, INFORMATIVE), supply()
    threads = [
        Thread(target=run, args=(0, [CONSTANT, INFORMATIVE], first)),
        Thread(target=run, args=(1, [INFORMATIVE, INFORMATIVE], second)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (requested, idle) == ([1, 1], [0, 0])
    assert totals[0].remaining == totals[1].remaining == 0
