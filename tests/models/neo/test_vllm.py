"""NEO in vLLM: tokens and log-probabilities equal those of transformers, and unsupported settings are refused."""

from __future__ import annotations

import importlib.util
import math
import random
import subprocess
import sys
from unittest import mock

import pytest
import torch
from PIL import Image

from jigsaw.models import neo_plugin

needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
COUNTS = range(10)
"""Images per prompt; all prompts are one batch."""


def noise(seed: int) -> Image.Image:
    rng = random.Random(seed)
    size = (rng.randrange(30, 200), rng.randrange(30, 200))
    return Image.frombytes("RGB", size, rng.randbytes(3 * size[0] * size[1]))


def conversation(count: int):
    parts = [{"type": "text", "text": f"Put {count} tiles in order. "}]
    for number in range(count):
        parts += [
            {"type": "text", "text": f"Tile {number + 1}: "},
            {"type": "image", "image": noise(10 * count + number)},
        ]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "Answer with indices."}]}]


def images_of(turns):
    return [part["image"] for part in turns[0]["content"] if part["type"] == "image"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from jigsaw.models.tiny import TinySizes, write_tiny

    folder = tmp_path_factory.mktemp("neo") / "tiny"
    sizes = TinySizes(hidden_size=64, num_layers=2, vision_hidden_size=64, initializer_range=0.15)
    write_tiny("neo", sizes, ["Put 9 tiles in order. Tile 1: Answer with indices."], folder)
    return str(folder)


@pytest.fixture(scope="module")
def engine(checkpoint):
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        environment.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        from vllm import LLM  # NEO is registered by the entry point

        yield LLM(
            checkpoint,
            dtype="float32",
            enforce_eager=True,
            max_model_len=1024,
            max_num_batched_tokens=2048,
            max_num_seqs=10,
            limit_mm_per_prompt={"image": 9},
            mm_processor_kwargs={"max_pixels": 64 * 1024},
        )


def reference(checkpoint, steps):
    """Returns the prompts and the greedy tokens and log-probabilities of transformers."""
    from jigsaw.models.load import load_model, load_processor

    model = load_model(checkpoint)
    processor = load_processor(checkpoint, max_pixels=64 * 1024)
    inputs = processor.apply_chat_template(
        [conversation(count) for count in COUNTS],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    )
    output = model.generate(
        **inputs,
        max_new_tokens=steps,
        do_sample=False,
        eos_token_id=-1,
        output_logits=True,
        return_dict_in_generate=True,
    )
    new = output.sequences[:, inputs["input_ids"].shape[1] :]
    scores = torch.stack(output.logits, dim=1).log_softmax(-1).gather(-1, new[..., None])[..., 0]
    prompts = [
        ids[mask.bool()].tolist() for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
    ]
    return prompts, new.tolist(), scores.tolist()


@needs_vllm
@pytest.mark.slow
def test_greedy_tokens_and_log_probabilities_equal_those_of_transformers(checkpoint, engine):
    from vllm import SamplingParams

    from jigsaw.models.load import load_processor

    steps = 12
    processor = load_processor(checkpoint)
    prompts = []
    for count in COUNTS:
        turns = conversation(count)
        text = processor.apply_chat_template(turns, add_generation_prompt=True)
        prompt = {"prompt_token_ids": processor.tokenizer(text)["input_ids"]}
        prompts.append(prompt | ({"multi_modal_data": {"image": images_of(turns)}} if count else {}))
    sampling = SamplingParams(temperature=0, max_tokens=steps, ignore_eos=True, logprobs=0)
    outputs = engine.generate(prompts, sampling, use_tqdm=False)
    expected_prompts, expected, expected_scores = reference(checkpoint, steps)
    for output, ids, tokens, scores in zip(outputs, expected_prompts, expected, expected_scores, strict=True):
        assert output.prompt_token_ids == ids
        completion = output.outputs[0]
        assert list(completion.token_ids) == tokens
        logps = [step[token].logprob for step, token in zip(completion.logprobs, completion.token_ids, strict=True)]
        difference = sum(abs(a - b) for a, b in zip(logps, scores, strict=True)) / steps
        assert difference < 1e-3


@needs_vllm
@pytest.mark.slow
def test_image_spans_are_runs_of_equal_times_within_a_sequence():
    from jigsaw.models.neo.vllm_model import image_spans

    times = torch.tensor([0, 1, 2, 2, 2, 3, 4, 5, 5, 5, 6, 7])
    assert image_spans(times, [0, 7, 11, 12]) == [(0, 2, 5), (7, 7, 10)]
    assert image_spans(times, [0, 3, 9, 12]) == [(3, 3, 5), (3, 7, 9)], "a run ends at the end of its sequence"


@needs_vllm
def test_the_vllm_configuration_has_image_spans_on_platforms_that_support_them(checkpoint, monkeypatch):
    """Given a platform other than the CPU, the model configuration of vLLM has image spans."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.platforms import current_platform

    from jigsaw.models.neo import vllm_config

    prepare = vllm_config.prepare_model

    def prepare_as_on_a_gpu(model_config):
        with mock.patch.object(type(current_platform), "is_cpu", lambda self: False):
            prepare(model_config)

    neo_plugin.register()
    arguments = EngineArgs(
        model=checkpoint, max_model_len=1024, dtype="float32", limit_mm_per_prompt={"image": 64, "video": 12}
    )
    assert not arguments.create_model_config().is_mm_prefix_lm
    monkeypatch.setattr(vllm_config, "prepare_model", prepare_as_on_a_gpu)
    assert arguments.create_model_config().is_mm_prefix_lm


@needs_vllm
@pytest.mark.slow
def test_the_layers_are_compiled_into_one_graph(checkpoint, monkeypatch):
    """vLLM compiles on a GPU by default. There, the back end handles image spans, so only text is compared."""
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm import LLM, SamplingParams

    from jigsaw.models.neo import vllm_model

    monkeypatch.setattr(vllm_model, "current_platform", Settings(is_cpu=lambda: False))
    compiled = LLM(
        checkpoint,
        dtype="float32",
        enforce_eager=False,
        max_model_len=512,
        max_num_batched_tokens=512,
        max_num_seqs=4,
        limit_mm_per_prompt={"image": 4},
        enable_chunked_prefill=False,
    )
    assert compiled.llm_engine.vllm_config.compilation_config.mode != 0
    expected_prompts, expected, _ = reference(checkpoint, 8)
    sampling = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
    (output,) = compiled.generate([{"prompt_token_ids": expected_prompts[0]}], sampling, use_tqdm=False)
    assert list(output.outputs[0].token_ids) == expected[0]


class Settings:
    """Named values, like a configuration object of vLLM."""

    def __init__(self, **values):
        self.__dict__.update(values)


class ModelSettings(Settings):
    """A fake of `ModelConfig` of vLLM, which derives image spans from the Hugging Face configuration."""

    multimodal_config = None

    def get_model_arch_config(self):
        return Settings(is_mm_prefix_lm=self.hf_config.is_mm_prefix_lm)

    @property
    def is_mm_prefix_lm(self):
        return self.model_arch_config.is_mm_prefix_lm


@needs_vllm
@pytest.mark.slow
def test_an_engine_that_would_split_prompts_is_refused(checkpoint):
    from transformers import AutoConfig

    from jigsaw.models.neo.vllm_config import prepare_engine

    config = AutoConfig.from_pretrained(checkpoint)
    engine = Settings(
        model_config=ModelSettings(hf_config=config, max_model_len=4096),
        parallel_config=Settings(tensor_parallel_size=1),
        scheduler_config=Settings(enable_chunked_prefill=True, max_num_batched_tokens=2048),
        cache_config=Settings(enable_prefix_caching=True),
    )
    with pytest.raises(ValueError, match="lower max_model_len"):
        prepare_engine(engine)
    engine.scheduler_config.max_num_batched_tokens = 4096
    prepare_engine(engine)
    assert not engine.cache_config.enable_prefix_caching
    assert not engine.scheduler_config.enable_chunked_prefill
    engine.parallel_config.tensor_parallel_size = 3
    with pytest.raises(ValueError, match="tensor_parallel_size"):
        prepare_engine(engine)


@needs_vllm
@pytest.mark.slow
def test_gpu_back_ends_without_image_spans_are_refused(checkpoint, monkeypatch):
    from transformers import AutoConfig
    from vllm.platforms import current_platform

    from jigsaw.models.neo.vllm_config import SPAN_BACKENDS, prepare_engine

    monkeypatch.setattr(type(current_platform), "is_cpu", lambda self: False)
    config = AutoConfig.from_pretrained(checkpoint)
    engine = Settings(
        model_config=ModelSettings(hf_config=config, max_model_len=4096),
        parallel_config=Settings(tensor_parallel_size=1),
        scheduler_config=Settings(),
        attention_config=Settings(backend=None),
    )
    for name in ("TRITON_ATTN_DIFFKV", "FLASHINFER", "XFORMERS"):
        engine.attention_config.backend = Settings(name=name)
        with pytest.raises(ValueError, match=f"{name} would drop the image mask; use one of TRITON_FLASH_ATTN"):
            prepare_engine(engine)
    for backend in (None, *(Settings(name=name) for name in SPAN_BACKENDS)):
        engine.attention_config.backend = backend
        prepare_engine(engine)
        assert config.is_mm_prefix_lm
    assert {"TRITON_FLASH_ATTN", "TRITON_FLASHINFER"} < set(SPAN_BACKENDS), "vLLM's first choices on SM90 and SM100"
    assert engine.scheduler_config.disable_chunked_mm_input

    engine.model_config.get_model_arch_config = lambda: Settings(is_mm_prefix_lm=False)
    with pytest.raises(ValueError, match="does not pass image spans to its attention"):
        prepare_engine(engine)


def test_importing_the_entry_point_imports_no_heavy_package():
    code = "import sys, jigsaw.models.neo_plugin; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "vllm", "numpy"} & set(done.stdout.split())


def test_the_entry_point_does_not_fail_without_vllm(monkeypatch, caplog):
    for name in {"vllm", *(name for name in sys.modules if name.startswith("vllm."))}:
        monkeypatch.setitem(sys.modules, name, None)
    before = set(sys.modules)
    neo_plugin.register()
    neo_plugin.register()
    assert not {name for name in set(sys.modules) - before if name.split(".")[0] in ("vllm", "torch")}
    assert "NEO could not be registered" in caplog.text


def test_log_probabilities_of_the_reference_are_finite(checkpoint):
    """The values that are compared above are finite and differ between the prompts."""
    _, tokens, scores = reference(checkpoint, 2)
    assert all(map(math.isfinite, (score for row in scores for score in row)))
    assert len({tuple(row) for row in tokens}) > 1
