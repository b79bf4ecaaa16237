"""Whether the engine that samples runs the policy that is trained: their log-probabilities of the same tokens.

In: the mean absolute difference of a step. Out: nothing, a warning, or the end of the run.
"""

from __future__ import annotations

import warnings

from jigsaw.errors import JigsawError, JigsawWarning

WHOLE = {"top_p": (1.0, None), "top_k": (0, -1, None), "min_p": (0.0, None)}
"""Values of sampling settings that leave the policy's distribution whole."""


class EngineWarning(JigsawWarning):
    """The engine that samples and the trainer differ, or are going to."""


class Agreement:
    """Watches the difference between vLLM and the trainer.

    Args:
        limit: mean absolute difference beyond which a run stops; a quarter of it is warned of, once.
    """

    def __init__(self, limit: float) -> None:
        self._limit, self._warned = limit, False

    def check(self, difference: float, step: int) -> None:
        """Look at one step.

        Raises:
            JigsawError: the two differ too much for the completions to be the policy's own.
        """
        if difference > self._limit:
            raise JigsawError(
                f"step {step}: vLLM's log-probabilities are {difference:.2g} from the trainer's, over "
                f"rollout.max_logp_difference={self._limit}: the two engines do not run the same policy"
            )
        if difference > self._limit / 4 and not self._warned:
            self._warned = True
            warnings.warn(
                f"step {step}: vLLM's log-probabilities are {difference:.2g} from the trainer's; beyond "
                f"rollout.max_logp_difference={self._limit:g} the run stops",
                EngineWarning,
                stacklevel=2,
            )


def warn_of_truncation(**settings: float | None) -> None:
    """Warn of each of `top_p`, `top_k` and `min_p` that cuts off a part of the policy's distribution.

    vLLM's log-probabilities are then those of the rest, scaled up, and the trainer's those of the whole.
    """
    for name, value in settings.items():
        if value not in WHOLE[name]:
            warnings.warn(
                f"grpo.{name}={value:g}: vLLM samples from a part of the policy, which biases the importance "
                f"correction and counts as a difference of the two engines; leave it at {WHOLE[name][0]:g}",
                EngineWarning,
                stacklevel=2,
            )
