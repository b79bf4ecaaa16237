"""The limit on the difference between vLLM's log-probabilities and the trainer's: a warning, then an error."""

from __future__ import annotations

import pytest

from jigsaw.errors import JigsawError
from jigsaw.training.agreement import Agreement, EngineWarning, warn_of_truncation


def test_a_difference_above_a_quarter_of_the_limit_is_warned_of_once(recwarn):
    agreement = Agreement(0.1)
    for step, difference in enumerate([0.0, 0.02, 0.03, 0.09]):
        agreement.check(difference, step)
    printed = [str(warning.message) for warning in recwarn if warning.category is EngineWarning]
    assert len(printed) == 1
    assert printed[0].startswith(
        "step 2: vLLM's log-probabilities differ by 0.03 from the trainer's; the run stops above"
    )


def test_a_difference_above_the_limit_stops_the_run():
    with pytest.raises(
        JigsawError, match=r"step 7: .* differ by 0.11 from .* more than rollout.max_logp_difference=0.1"
    ):
        Agreement(0.1).check(0.11, 7)


@pytest.mark.parametrize("settings", [{"top_p": 1.0, "top_k": 0, "min_p": None}, {"top_k": -1, "min_p": 0.0}])
def test_sampling_from_the_full_distribution_is_not_warned_of(settings, recwarn):
    warn_of_truncation(**settings)
    assert not recwarn.list


@pytest.mark.parametrize("name, value", [("top_p", 0.9), ("top_k", 40), ("min_p", 0.05)])
def test_truncated_sampling_is_warned_of(name, value):
    with pytest.warns(EngineWarning, match=rf"grpo\.{name}={value}: .*biases the importance sampling correction"):
        warn_of_truncation(**{name: value})
