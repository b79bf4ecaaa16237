"""Who generates: transformers or vLLM behind one door, with the same prompts, the same pixels and the same decoding.

In: rows of a puzzle set with their media. Out: per row as many texts as `Decoding.samples` says, special tokens left
out. An engine is a callable; nothing else of it is used.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from jigsaw.errors import JigsawError, first_line
from jigsaw.models.load import load_model, load_processor, vision_token_ids
from jigsaw.models.prompts import processor_inputs
from jigsaw.models.vllm_inputs import engine_options, quiet_vllm, vllm_request

ENGINES = ("transformers", "vllm")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Decoding:
    """How completions are drawn.

    Attributes:
        max_new_tokens: completion limit.
        samples: completions of each puzzle; one is decoded greedily, several are sampled.
        temperature: of sampling; not used for one.
        seed: of sampling. Draws depend on it and on the batch, so the same call gives the same texts.
    """

    max_new_tokens: int = 1024
    samples: int = 1
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples > 1 and not 0 < self.temperature < float("inf"):
            raise JigsawError(f"--temperature: {self.temperature} is not above 0; with --samples 1 decoding is greedy")


class Engine(Protocol):
    """A callable from a batch of rows to their completions."""

    def __call__(self, rows: Sequence[Row]) -> list[list[str]]:
        """`Decoding.samples` texts for each row."""


def open_engine(name: str, model: str, decoding: Decoding, *, dtype: str = "float32") -> Engine:
    """Open a checkpoint in an engine.

    Args:
        name: one of `ENGINES`.
        model: checkpoint folder or hub id.
        decoding: how completions are drawn.
        dtype: `float32` or `bfloat16`.

    Raises:
        JigsawError: no such engine, one that is not installed, or a checkpoint that cannot be used.
    """
    if name not in ENGINES:
        raise JigsawError(f"--engine: {name!r} is none of {', '.join(ENGINES)}")
    if dtype not in ("float32", "bfloat16"):
        raise JigsawError(f"--dtype: {dtype!r} is neither float32 nor bfloat16")
    if name == "vllm":
        return VllmEngine(model, decoding, dtype)
    import torch

    processor = load_processor(model)
    network = load_model(model, dtype).to("cuda" if torch.cuda.is_available() else "cpu")
    return TransformersEngine(network, processor, decoding)


class TransformersEngine:
    """Hugging Face generation with a model that is already open; its mode is left as found."""

    def __init__(self, model: Any, processor: Any, decoding: Decoding) -> None:
        self._model, self._processor, self._decoding = model, processor, decoding
        self._suppressed = vision_token_ids(processor)

    def __call__(self, rows: Sequence[Row]) -> list[list[str]]:
        """Completions of a batch."""
        import torch

        decoding, model = self._decoding, self._model
        inputs = processor_inputs(self._processor, rows).to(model.device)
        drawn: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if decoding.samples > 1:
            drawn = {"do_sample": True, "temperature": decoding.temperature, "top_p": 1.0, "top_k": 0}
            drawn["num_return_sequences"] = decoding.samples
        # Qwen2.5-VL's checkpoints bring a penalty of 1.05, which neither vLLM nor training applies.
        drawn |= {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
        was_training = model.training
        model.eval()
        try:
            with torch.inference_mode(), torch.random.fork_rng(enabled=decoding.samples > 1):
                if decoding.samples > 1:
                    torch.manual_seed(_batch_seed(decoding.seed, rows))
                output = model.generate(
                    **inputs, **drawn, max_new_tokens=decoding.max_new_tokens, suppress_tokens=self._suppressed
                )
        finally:
            model.train(was_training)
        texts = self._processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return [texts[start : start + decoding.samples] for start in range(0, len(texts), decoding.samples)]


class VllmEngine:
    """vLLM's offline engine, on a GPU or with its CPU build."""

    def __init__(self, model: str, decoding: Decoding, dtype: str) -> None:
        on_cpu = not _has_gpu()
        quiet_vllm(on_cpu)
        if on_cpu:  # one process does for what a CPU can serve
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        try:
            import vllm
        except ImportError as error:
            raise JigsawError("--engine vllm: vLLM is not installed; install the extra gpu (or cpu)") from error
        self._processor = load_processor(model)
        self._sampling = vllm.SamplingParams(
            n=decoding.samples,
            temperature=decoding.temperature if decoding.samples > 1 else 0.0,
            max_tokens=decoding.max_new_tokens,
            detokenize=False,
            seed=decoding.seed if decoding.samples > 1 else None,
            # A vision token in a completion would promise pixels that are not there.
            logit_bias=dict.fromkeys(vision_token_ids(self._processor), -100.0),
        )
        options: dict[str, Any] = {"gpu_memory_utilization": 0.3, "enforce_eager": True} if on_cpu else {}
        try:
            with warnings.catch_warnings(action="ignore"):
                self._engine = vllm.LLM(
                    model=model,
                    dtype=dtype,
                    seed=decoding.seed,
                    **engine_options(on_cpu),
                    **options,
                )
        except (RuntimeError, ValueError) as error:
            raise JigsawError(
                f"--engine vllm: the engine did not start: {first_line(error)}; --debug shows all of it"
            ) from error

    def __call__(self, rows: Sequence[Row]) -> list[list[str]]:
        """Completions of a batch."""
        requests = [vllm_request(self._processor, row) for row in rows]
        outputs = self._engine.generate(requests, self._sampling, use_tqdm=False)
        # vLLM's own text lacks a character that the limit cut in two; ours is decoded as transformers' is.
        decode = partial(self._processor.batch_decode, skip_special_tokens=True)
        return [decode([list(completion.token_ids) for completion in output.outputs]) for output in outputs]


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _batch_seed(seed: int, rows: Sequence[Row]) -> int:
    named = f"{seed} {rows[0].get('id')} {len(rows)}"
    return int.from_bytes(hashlib.sha256(named.encode()).digest()[:6], "big")
