"""Checks vLLM's log-probabilities against the trainer's.

In: the mean absolute difference of a step. Out: nothing, a warning, or an error that stops the run.
"""

from __future__ import annotations

import warnings

from jigsaw.errors import JigsawError, JigsawWarning

UNTRUNCATED = {"top_p": (1.0, None), "top_k": (0, -1, None), "min_p": (0.0, None)}
"""Values of sampling settings that do not truncate the policy's distribution."""


class EngineWarning(JigsawWarning):
    """The sampling engine and the trainer differ, or will differ with these settings."""


class Agreement:
    """Monitors the difference between vLLM and the trainer.

    Args:
        limit: mean absolute difference above which a run stops; above a quarter of it, one warning is printed.
    """

    def __init__(self, limit: float) -> None:
        self._limit, self._warned = limit, False

    def check(self, difference: float, step: int) -> None:
        """Check the difference of one step.

        Raises:
            JigsawError: the difference is above the limit, so the completions are not the policy's.
        """
        if difference > self._limit:
            raise JigsawError(
                f"step {step}: vLLM's log-probabilities differ by {difference:.2g} from the trainer's, more than "
                f"rollout.max_logp_difference={self._limit}: the two do not run the same policy"
            )
        if difference > self._limit / 4 and not self._warned:
            self._warned = True
            warnings.warn(
                f"step {step}: vLLM's log-probabilities differ by {difference:.2g} from the trainer's; the run stops "
                f"above rollout.max_logp_difference={self._limit:g}",
                EngineWarning,
                stacklevel=2,
            )


def warn_of_truncation(**settings: float | None) -> None:
    """Warn of each of `top_p`, `top_k` and `min_p` that truncates the policy's distribution.

    vLLM's log-probabilities are then those of the truncated distribution, and the trainer's those of the complete one.
    """
    for name, value in settings.items():
        if value not in UNTRUNCATED[name]:
            warnings.warn(
                f"grpo.{name}={value:g}: vLLM samples from a truncated policy, which biases the importance sampling "
                f"correction and counts as a difference of the two engines; leave it at {UNTRUNCATED[name][0]:g}",
                EngineWarning,
                stacklevel=2,
            )
