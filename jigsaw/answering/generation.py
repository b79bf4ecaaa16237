"""Generation: the settings of `jigsaw eval`, and the texts that an engine writes.

In: rows of a puzzle set with their media. Out: `Generation.samples` texts for each row, without special tokens. The
engines are those of training (`jigsaw.engines`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from jigsaw.engines import Engine, Sampling
from jigsaw.errors import JigsawError
from jigsaw.models.load import end_token_ids, load_model, load_processor, on_device, vision_token_ids
from jigsaw.models.prompts import completion_texts

if TYPE_CHECKING:
    from jigsaw.engines.vllm_requests import VllmSettings

ENGINES = ("transformers", "vllm")
DTYPES = ("float32", "bfloat16")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Generation:
    """Settings of generation. The options of the commands have these names and defaults.

    Attributes:
        engine: one of `ENGINES`.
        dtype: type of weights and computation, one of `DTYPES`.
        batch_size: prompts per batch.
        max_new_tokens: completion limit.
        samples: completions per puzzle. One completion is decoded greedily, several are sampled.
        temperature: of sampling; not used for greedy decoding.
        seed: of sampling. A sampled completion depends on this seed, its puzzle and its number, and not on the rest of
            the batch, so that an evaluation that was interrupted gives the same texts.
    """

    engine: str = "transformers"
    dtype: str = "float32"
    batch_size: int = 16
    max_new_tokens: int = 1024
    samples: int = 1
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("engine", ENGINES), ("dtype", DTYPES)):
            if (value := getattr(self, name)) not in known:
                raise JigsawError(f"--{name}: {value!r} is none of {', '.join(known)}")
        if self.samples > 1 and not 0 < self.temperature < float("inf"):
            raise JigsawError(f"--temperature: {self.temperature} is not above 0; with --samples 1 decoding is greedy")

    def sampling(self, rows: Sequence[Row], forbidden_tokens: Sequence[int], end_tokens: Sequence[int]) -> Sampling:
        """The sampling settings of a batch of rows for an engine."""
        several = self.samples > 1
        return Sampling(
            count=self.samples,
            max_tokens=self.max_new_tokens,
            temperature=self.temperature if several else 0.0,
            seeds=tuple(_seed(self.seed, row) for row in rows) if several else (),
            forbidden_tokens=tuple(forbidden_tokens),
            end_tokens=tuple(end_tokens),
        )

    def settings(self) -> dict[str, Any]:
        """The settings that texts depend on. Greedy texts do not depend on `batch_size`."""
        return {name: value for name, value in asdict(self).items() if name != "batch_size" or self.samples > 1}


GREEDY = Generation()
"""Default generation settings: greedy decoding."""


def require_greedy(generation: Generation) -> None:
    """Check that decoding is greedy, as the protocols of the benchmarks require.

    Raises:
        JigsawError: `samples` is not 1.
    """
    if generation.samples != 1:
        raise JigsawError(f"--samples: {generation.samples}; benchmarks need greedy decoding, with one completion")


Generate = Callable[[Sequence[Row]], list[list[str]]]
"""A function from a batch of rows to `Generation.samples` texts for each row."""


class TextGenerator:
    """Generates texts with an engine: a callable of the type `Generate`. `end_tokens` are ids that end a completion."""

    def __init__(self, engine: Engine, processor: Any, generation: Generation, end_tokens: Sequence[int]) -> None:
        self._engine, self._processor, self._generation = engine, processor, generation
        self._forbidden, self._end_tokens = vision_token_ids(processor), end_tokens

    def __call__(self, rows: Sequence[Row]) -> list[list[str]]:
        """The texts of each row."""
        sampling = self._generation.sampling(rows, self._forbidden, self._end_tokens)
        tokens = self._engine.generate(rows, sampling).tokens
        count = sampling.count
        texts = completion_texts(self._processor, rows, tokens, count=count)
        return [texts[start : start + count] for start in range(0, len(texts), count)]

    def close(self) -> None:
        """Free the memory of the engine."""
        self._engine.close()


def open_engine(model: str, generation: Generation, settings: VllmSettings | None = None) -> TextGenerator:
    """Open a checkpoint (folder or hub id) in an engine. `settings` are those of vLLM; None for the defaults.

    Raises:
        JigsawError: the engine is not installed, or the checkpoint cannot be used.
    """
    if generation.engine == "vllm":
        from jigsaw.engines.vllm import VllmEngine
        from jigsaw.engines.vllm_requests import VllmSettings

        settings = settings or VllmSettings(dtype=generation.dtype, seed=generation.seed)
        processor = load_processor(model)
        engine: Engine = VllmEngine(model, processor, settings)
        return TextGenerator(engine, processor, generation, end_token_ids(model, processor))
    processor = load_processor(model)  # fails sooner than the model
    return with_model(on_device(load_model(model, generation.dtype)), processor, generation)


def with_model(model: Any, processor: Any, generation: Generation) -> TextGenerator:
    """A generator for a model that is already open. Its training or evaluation mode is left unchanged."""
    from jigsaw.engines.transformers import TransformersEngine

    engine = TransformersEngine(model, processor)
    return TextGenerator(engine, processor, generation, end_token_ids(model, processor))


def _seed(seed: int, row: Row) -> int:
    """The seed of a row's completions, which does not depend on the batch."""
    return int.from_bytes(hashlib.sha256(f"{seed} {row.get('id')}".encode()).digest()[:4], "big")
