"""The interface of an engine: how completions are sampled, and what comes back. Imports no torch."""

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
    """How the completions of N rows are sampled.

    Attributes:
        count: completions of each row, G.
        max_tokens: limit of a completion.
        temperature: that logits are divided by; 0 takes the most probable token (greedy decoding).
        top_p: sample from the most probable tokens that make up this share; 1 for all.
        top_k: sample from this many of the most probable tokens; 0 for all.
        min_p: leave out tokens below this share of the most probable one's probability; 0 for none.
        seeds: one per row, where the temperature is above 0. The randomness of a completion depends on the seed of its
            row and on its own number, so that a row gets the same completions in any batch and in any process.
        forbidden_tokens: ids that are never sampled.
        end_tokens: ids that end a completion; it keeps the one that ended it.

    Raises:
        JigsawError: a value out of its range, or several completions with greedy decoding, which would all be equal.
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
                raise JigsawError(f"sampling: {name} is {getattr(self, name)}, which is out of its range")
        if self.greedy and self.count > 1:
            raise JigsawError(f"sampling: {self.count} greedy completions of a prompt would be equal; take one")

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is taken, without randomness."""
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
    """Completions of N rows, G of each, those of a row together.

    Attributes:
        tokens: `N * G` lists of token ids. A completion ends with its end token, or at the limit.
        log_probabilities: under which each token was sampled, if the engine reports them.
    """

    tokens: list[list[int]]
    log_probabilities: list[list[float]] | None = None


class Engine(Protocol):
    """Samples completions.

    During training `sync` comes before `generate` and `sleep` after it. Both are collective: every process calls them.
    `generate` is not: a process may call it any number of times, with any number of rows.
    """

    def sync(self, policy: Policy) -> None:
        """Take the weights of the model that is trained, unless the engine has them already. Collective."""

    def generate(self, rows: Sequence[Row], sampling: Sampling, prompts: PromptBatch | None = None) -> Completions:
        """Sample completions.

        Args:
            rows: puzzle rows with their media, N.
            sampling: how; `seeds` has one entry per row.
            prompts: the same rows as the trainer has encoded them, if it has.

        Raises:
            JigsawError: the engine read another prompt than the trainer, or has no room for a completion.
        """

    def sleep(self) -> None:
        """Free what is needed only while sampling. Collective."""

    def close(self) -> None:
        """Free everything; the engine is not used afterwards."""


class AsyncEngine(Engine, Protocol):
    """An engine on devices of its own, which can sample while the trainer works."""

    def begin(self, rows: Sequence[Row], sampling: Sampling) -> None:
        """Start to sample with the present weights; `generate` with the same settings waits for it and returns it.

        `sync` waits for it too, before it changes the weights.
        """
