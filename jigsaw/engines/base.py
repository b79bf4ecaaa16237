"""The interface of an engine: sampling settings, completions and methods. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from jigsaw.errors import JigsawError

if TYPE_CHECKING:
    from jigsaw.engines.weights import Policy
    from jigsaw.models.prompt_batch import PromptBatch

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Sampling settings for the completions of N rows.

    Attributes:
        count: completions per row, G.
        max_tokens: maximum tokens of a completion.
        temperature: divisor of the logits; 0 for greedy decoding.
        top_p: sample from the most probable tokens whose probabilities add up to this share; 1 for all tokens.
        top_k: sample from this number of most probable tokens; 0 for all tokens.
        min_p: exclude tokens whose probability is below this share of the highest one; 0 for no exclusion.
        seeds: one seed per row if the temperature is above 0. The randomness of a completion depends on the seed of its
            row and on its number, so that a row gets the same completions in any batch and in any process.
        forbidden_tokens: ids that are never sampled.
        end_tokens: ids that end a completion, which includes the end token.

    Raises:
        JigsawError: a value is out of range, or several completions are sampled greedily and would be equal.
    """

    count: int = 1
    max_tokens: int = 1024
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seeds: tuple[int, ...] = ()
    forbidden_tokens: tuple[int, ...] = ()
    end_tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        ranges = {
            "count": self.count >= 1,
            "max_tokens": self.max_tokens >= 1,
            "temperature": 0 <= self.temperature < float("inf"),
            "top_p": 0 < self.top_p <= 1,
            "top_k": self.top_k >= 0,
            "min_p": 0 <= self.min_p <= 1,
        }
        for name, fits in ranges.items():
            if not fits:
                raise JigsawError(f"sampling: {name} is {getattr(self, name)}, which is out of range")
        if self.greedy and self.count > 1:
            raise JigsawError(f"sampling: {self.count} greedy completions of a prompt would be equal; set count to 1")

    @property
    def greedy(self) -> bool:
        """Whether decoding is greedy."""
        return self.temperature == 0

    def require_seeds(self, rows: Sequence[Any]) -> None:
        """Check that every row has a seed.

        Raises:
            JigsawError: the numbers of rows and seeds differ.
        """
        if not self.greedy and len(self.seeds) != len(rows):
            raise JigsawError(f"sampling: {len(rows)} rows and {len(self.seeds)} seeds; each row needs one")


@dataclass(frozen=True)
class Completions:
    """Completions of N rows, G per row, in order of rows.

    Attributes:
        tokens: `N * G` lists of token ids. A completion ends with its end token, or at the token limit.
        log_probabilities: log-probability with which each token was sampled, if the engine reports them.
    """

    tokens: list[list[int]]
    log_probabilities: list[list[float]] | None = None


class Engine(Protocol):
    """Samples completions.

    In training, `sync` is called before `generate` and `sleep` after it. Both are collective: every process calls them.
    `generate` is not collective: a process may call it any number of times, with any number of rows.
    """

    def sync(self, policy: Policy) -> None:
        """Load the weights of the policy, unless the engine has them already. Collective."""

    def generate(self, rows: Sequence[Row], sampling: Sampling, prompts: PromptBatch | None = None) -> Completions:
        """Sample completions.

        Args:
            rows: N puzzle rows with their media.
            sampling: the sampling settings, with one seed per row.
            prompts: the same rows encoded by the trainer, if it has encoded them.

        Raises:
            JigsawError: the engine's prompt differs from the trainer's, or the engine has no room for a completion.
        """

    def sleep(self) -> None:
        """Free memory that is only needed during sampling. Collective."""

    def close(self) -> None:
        """Free all memory; the engine cannot be used afterwards."""


class AsyncEngine(Engine, Protocol):
    """An engine on its own devices, which can sample while the trainer works."""

    def begin(self, rows: Sequence[Row], sampling: Sampling) -> None:
        """Start to sample with the present weights; `generate` with the same settings waits for the completions.

        `sync` also waits for them before it changes the weights.
        """
