"""Who generates: transformers or vLLM behind one door, with the same prompts, the same pixels and the same generation.

In: rows of a puzzle set with their media. Out: per row as many texts as `Generation.samples` says, special tokens left
out. An engine is a callable; nothing else of it is used.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

from jigsaw.engines.vllm_requests import engine_options, quiet_vllm, vllm_request
from jigsaw.errors import JigsawError, first_line
from jigsaw.extras import install_command
from jigsaw.models.load import load_model, load_processor, on_device, vision_token_ids
from jigsaw.models.prompts import processor_inputs

ENGINES = ("transformers", "vllm")
DTYPES = ("float32", "bfloat16")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Generation:
    """How completions are made. The options of the verbs have these names and defaults.

    Attributes:
        engine: one of `ENGINES`.
        dtype: of weights and computation, one of `DTYPES`.
        batch_size: prompts generated together.
        max_new_tokens: completion limit.
        samples: completions of each puzzle; one is decoded greedily, several are sampled.
        temperature: of sampling; not used for one.
        seed: of sampling. Each completion has a stream of its own, by seed, puzzle and sample: what stands beside a
            puzzle in a batch does not change its draws, so an evaluation that goes on gives the same texts.
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

    def settings(self) -> dict[str, Any]:
        """What a text depends on: all, but for greedy ones `batch_size`, so that those may go on with another one."""
        return {name: value for name, value in asdict(self).items() if name != "batch_size" or self.samples > 1}


GREEDY = Generation()
"""What is not given is so."""


def require_greedy(generation: Generation) -> None:
    """Refuse samples where the protocol of a benchmark has one greedy answer.

    Raises:
        JigsawError: several samples are asked for.
    """
    if generation.samples != 1:
        raise JigsawError(f"--samples: {generation.samples} with --suite; benchmarks are answered once, greedily")


class Engine(Protocol):
    """A callable from a batch of rows to their completions."""

    def __call__(self, rows: Sequence[Row]) -> list[list[str]]:
        """`Generation.samples` texts for each row."""


def open_engine(model: str, generation: Generation) -> Engine:
    """Open a checkpoint (folder or hub id) in an engine.

    Raises:
        JigsawError: an engine that is not installed, or a checkpoint that cannot be used.
    """
    if generation.engine == "vllm":
        return VllmEngine(model, generation)
    processor = load_processor(model)  # the quicker of the two to fail
    return TransformersEngine(on_device(load_model(model, generation.dtype)), processor, generation)


class TransformersEngine:
    """Hugging Face generation with a model that is already open; its mode is left as found."""

    def __init__(self, model: Any, processor: Any, generation: Generation) -> None:
        self._model, self._processor, self._generation = model, processor, generation
        self._suppressed = vision_token_ids(processor)

    def __call__(self, rows: Sequence[Row]) -> list[list[str]]:
        """Completions of a batch."""
        import torch

        generation, model = self._generation, self._model
        inputs = processor_inputs(self._processor, rows).to(model.device)
        drawn: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if generation.samples > 1:
            drawn = {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0}
            drawn["num_return_sequences"] = generation.samples
            drawn["logits_processor"] = [own_streams(generation, rows, model.device)]
        # Qwen2.5-VL's checkpoints bring a penalty of 1.05, which neither vLLM nor training applies.
        drawn |= {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
        was_training = model.training
        model.eval()
        try:
            with torch.inference_mode(), torch.random.fork_rng(enabled=generation.samples > 1):
                output = model.generate(
                    **inputs, **drawn, max_new_tokens=generation.max_new_tokens, suppress_tokens=self._suppressed
                )
        finally:
            model.train(was_training)
        texts = self._processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return [texts[start : start + generation.samples] for start in range(0, len(texts), generation.samples)]


class VllmEngine:
    """vLLM's offline engine, on a GPU or with its CPU build."""

    def __init__(self, model: str, generation: Generation) -> None:
        on_cpu = not _has_gpu()
        quiet_vllm(on_cpu)
        if on_cpu:  # one process does for what a CPU can serve
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        try:
            import vllm
        except ImportError as error:
            raise JigsawError(f"--engine vllm: vLLM is not installed; {install_command('gpu')}") from error
        self._processor = load_processor(model)
        self._sampling = vllm.SamplingParams(
            n=generation.samples,
            temperature=generation.temperature if generation.samples > 1 else 0.0,
            max_tokens=generation.max_new_tokens,
            detokenize=False,
            seed=generation.seed if generation.samples > 1 else None,
            # A vision token in a completion would promise pixels that are not there.
            logit_bias=dict.fromkeys(vision_token_ids(self._processor), -100.0),
        )
        options: dict[str, Any] = {"gpu_memory_utilization": 0.3, "enforce_eager": True} if on_cpu else {}
        try:
            with warnings.catch_warnings(action="ignore"):
                self._engine = vllm.LLM(
                    model=model,
                    dtype=generation.dtype,
                    seed=generation.seed,
                    trust_remote_code=False,
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


def own_streams(generation: Generation, rows: Sequence[Row], device: Any) -> Any:
    """A logits processor that draws every completion from a stream of its own.

    Gumbel's trick: the largest of logits over temperature plus Gumbel noise is a draw from their softmax. All other
    tokens are ruled out, so that what `generate` draws afterwards is that token whatever its own random state.

    Args:
        generation: its seed, temperature and number of samples.
        rows: the puzzles of the batch; samples of a puzzle are neighbours.
        device: of the logits.
    """
    import torch

    seeds = [_stream_seed(generation.seed, row, sample) for row in rows for sample in range(generation.samples)]
    streams = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def draw(_: Any, logits: Any) -> Any:
        noise = torch.empty_like(logits, dtype=torch.float32)
        for row, stream in zip(noise, streams, strict=True):
            row.exponential_(generator=stream).clamp_(min=torch.finfo(torch.float32).tiny)
        chosen = (logits.float() / generation.temperature - noise.log()).argmax(-1, keepdim=True)
        return torch.full_like(logits, -float("inf")).scatter(-1, chosen, 0.0)

    return draw


def _stream_seed(seed: int, row: Row, sample: int) -> int:
    named = f"{seed} {row.get('id')} {sample}"
    return int.from_bytes(hashlib.sha256(named.encode()).digest()[:6], "big")
