"""Whether the engine that samples runs the policy that is trained: their log-probabilities of the same tokens.

In: the mean absolute difference of a step. Out: nothing, a warning, or the end of the run.
"""

from __future__ import annotations

import logging

from jigsaw.errors import JigsawError

logger = logging.getLogger(__name__)


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
            logger.warning(
                "vLLM's log-probabilities are %.2g from the trainer's; the run stops at %g", difference, self._limit
            )
