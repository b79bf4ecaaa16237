"""vLLM in colocate mode: prompts, pixels and weights are the trainer's, before and after weight updates.

The engine is the CPU build of vLLM. The options and calls on a GPU are tested with a recorder instead of an engine.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from jigsaw.config.schema import RolloutSection
from jigsaw.engines import Sampling
from jigsaw.engines import vllm as module
from jigsaw.engines.vllm import VllmEngine, colocated_engine, require_vllm
from jigsaw.engines.weights import Policy
from jigsaw.errors import JigsawError
from jigsaw.models.load import load_model, load_processor, vision_token_ids
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.shared_prefix import log_probabilities

ROLLOUT = RolloutSection(engine="vllm", max_model_len=2048)


def row(number: int, sizes: list[tuple[int, int]]) -> dict:
    """Returns a row with random images of the given sizes."""
    generator = torch.Generator().manual_seed(number)
    images = [
        Image.fromarray(torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8).numpy())
        for width, height in sizes
    ]
    content = [
        part for i in range(len(images)) for part in ({"type": "text", "text": f"Tile {i + 1}:"}, {"type": "image"})
    ]
    content.append({"type": "text", "text": "List the tiles in raster order."})
    return {"id": f"row-{number}", "prompt": [{"role": "user", "content": content}], "images": images}


ROWS = [
    row(0, [(56, 56)] * 4),
    row(1, [(84, 28), (28, 140)]),
    row(2, []),
    row(3, [(112, 56), (56, 56), (28, 28), (84, 84), (56, 112), (28, 56), (56, 28), (84, 56), (56, 84)]),
]


class Policies:
    """Creates a policy with the next version of the weights."""

    def __init__(self, model) -> None:
        self.model, self.version = model, -1

    def next(self) -> Policy:
        self.version += 1
        return Policy(self.model, version=self.version)


def logp_difference(engine: VllmEngine, policy: Policy, processor, *, temperature: float = 1.0) -> float:
    """Returns the mean absolute difference of the log-probabilities of completions that vLLM samples."""
    engine.sync(policy)
    prompts = PromptBatch.encode(policy.model, processor, ROWS, "cpu")
    forbidden = vision_token_ids(processor)
    settings = Sampling(
        count=3, max_tokens=16, seeds=(0, 1, 2, 3), temperature=temperature, forbidden_tokens=tuple(forbidden)
    )
    completions = engine.generate(ROWS, settings, prompts)
    width = max(map(len, completions.tokens))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in completions.tokens])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in completions.tokens])
    sampled = torch.tensor([row + [0.0] * (width - len(row)) for row in completions.log_probabilities])
    owner = torch.arange(len(ROWS)).repeat_interleave(3)
    with torch.no_grad():
        expected, _ = log_probabilities(
            policy.model, prompts, owner.tolist(), ids, mask, temperature=temperature, forbidden_tokens=forbidden
        )
    return float(((expected - sampled).abs() * mask).sum() / mask.sum())


@pytest.mark.parametrize("kind", ["untied head", "tied head", "neo"])
def test_log_probabilities_equal_the_trainers_before_and_after_updates(make_checkpoint, neo_checkpoint, kind: str):
    pytest.importorskip("vllm")
    path = neo_checkpoint if kind == "neo" else make_checkpoint(tie_word_embeddings=kind == "tied head")
    model, processor = load_model(str(path)), load_processor(str(path))
    policies = Policies(model)
    engine = colocated_engine(model.config, processor, ROLLOUT, device="cpu", dtype="float32", seed=0, completions=24)
    assert logp_difference(engine, policies.next(), processor) < 1e-5
    for _ in range(2):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.03)
        assert logp_difference(engine, policies.next(), processor) < 1e-5
    assert logp_difference(engine, policies.next(), processor, temperature=0.7) < 1e-5

    prompts = PromptBatch.encode(model, processor, ROWS, "cpu")
    pair = prompts.select([1, 2])

    def generate(seeds: tuple[int, ...], **changes) -> list[list[int]]:
        settings = Sampling(**{"count": 3, "max_tokens": 8, "seeds": seeds} | changes)
        rows, batch = (ROWS, prompts) if len(seeds) == 4 else (ROWS[1:3], pair)
        return engine.generate(rows, settings, batch).tokens

    first = generate((0, 1, 2, 3))
    engine.sync(policies.next())
    assert generate((1, 2)) == first[3:9]

    ends = {first[3][2], first[6][1]}  # tokens that were sampled in the middle of completions
    ended = generate((1, 2), end_tokens=tuple(sorted(ends)))
    for complete, short in zip(first[3:9], ended, strict=True):
        place = next((place for place, token in enumerate(complete) if token in ends), len(complete) - 1)
        assert short == complete[: place + 1]
    assert min(map(len, ended)) < 8

    greedy = Sampling(max_tokens=8, temperature=0.0)
    single = engine.generate(ROWS[:1], greedy)  # without the trainer's prompts, as in an evaluation
    assert single.log_probabilities is None and engine.generate(ROWS, greedy).tokens[0] == single.tokens[0]
    assert engine.generate([], greedy).tokens == []

    prompts.input_ids[0, -1] += 1
    with pytest.raises(JigsawError, match="row row-0: vLLM read a prompt of"):
        generate((0, 1, 2, 3), max_tokens=1)
    prompts.input_ids[0, -1] -= 1
    with pytest.raises(JigsawError, match=r"row row-0: its prompt of .* rollout\.max_model_len=2048; set it to \d+ or"):
        generate((0, 1, 2, 3), max_tokens=2048)

    forbidden = vision_token_ids(processor)
    with torch.no_grad():  # the model gets the highest logits for vision tokens
        head = model.get_output_embeddings().weight
        head[forbidden] = 3 * torch.sign(head[forbidden])
    engine.sync(policies.next())
    tokens = generate((0, 1, 2, 3), count=8, forbidden_tokens=tuple(forbidden))
    assert not {token for row in tokens for token in row} & set(forbidden)
    engine.close()


class Recorder:
    """Replaces `vllm.LLM`: records its options and calls and starts nothing."""

    def __init__(self, **options) -> None:
        self.options, self.calls = options, []
        torch.manual_seed(0)  # as vLLM does
        self.model_config = SimpleNamespace(max_model_len=2048)
        self.llm_engine = SimpleNamespace(reset_encoder_cache=lambda: self.calls.append("reset_encoder_cache"))
        EVENTS.append("engine")

    def __getattr__(self, name: str):
        return lambda *args, **kwargs: self.calls.append((name, args, kwargs) if args or kwargs else name)


EVENTS: list[str] = []


@pytest.fixture
def recorder(monkeypatch):
    """vLLM as on a GPU, with a recorder instead of an engine."""
    vllm = pytest.importorskip("vllm")
    from vllm.platforms import current_platform

    EVENTS.clear()
    monkeypatch.setattr(vllm, "LLM", Recorder)
    monkeypatch.setattr(type(current_platform), "is_cpu", lambda self: False)
    return Recorder


def on_a_gpu(model, processor, **rollout) -> VllmEngine:
    """Returns the engine of a trainer on a GPU whose model is still on the CPU, as with DeepSpeed."""
    settings = RolloutSection(engine="vllm", max_model_len=2048, **rollout)
    return colocated_engine(
        model.config, processor, settings, device=torch.device("cuda", 0), dtype="bfloat16", seed=0, completions=256
    )


def test_an_engine_on_a_gpu_has_graphs_chunked_prefill_and_sleep_if_the_model_is_on_the_cpu(recorder, model, processor):
    options = on_a_gpu(model, processor, sleep=True, gpu_memory_utilization=0.4)._llm.options
    expected = {
        "enforce_eager": False,
        "enable_sleep_mode": True,
        "enable_chunked_prefill": True,
        "gpu_memory_utilization": 0.4,
        "max_num_seqs": 256,
        "max_num_batched_tokens": 8192,
        "mm_processor_cache_gb": 0,
        "logprobs_mode": "processed_logprobs",
        "dtype": "bfloat16",
    }
    assert {name: options[name] for name in expected} == expected
    assert "distributed_executor_backend" not in options


def test_a_sleeping_engine_gets_weights_once_per_version(recorder, model, processor):
    """The order is that of vLLM: weights, reload, cache. Its public call sets the configuration first."""
    engine = on_a_gpu(model, processor, sleep=True)
    calls = engine._llm.calls
    assert calls == [("sleep", (), {"level": 2})]
    del calls[:]
    engine.sync(Policy(model, version=3))
    names = [call if isinstance(call, str) else call[0] for call in calls]
    assert names == [
        "wake_up", "collective_rpc", "apply_model", "reset_prefix_cache", "reset_encoder_cache", "wake_up"
    ]  # fmt: skip
    assert calls[1][1] == ("reload_weights",) and [*dict(calls[1][2]["kwargs"]["weights_iterator"])] == [
        name for name, _ in model.named_parameters()
    ]
    assert [call[2]["tags"] for call in calls if call[0] == "wake_up"] == [["weights"], ["kv_cache"]]
    del calls[:]
    engine.sync(Policy(model, version=3))
    assert calls == []
    engine.sleep()
    engine.sync(Policy(model, version=3))  # a sleeping engine does not keep its weights
    assert len(calls) == 7


def test_creating_an_engine_does_not_change_the_random_state(recorder, model, processor):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    on_a_gpu(model, processor)
    assert torch.equal(torch.rand(3), expected)


def test_processes_wait_for_each_other_after_creating_their_engines(recorder, model, processor, monkeypatch):
    group = SimpleNamespace(
        is_initialized=lambda: True, get_world_size=lambda: 2, barrier=lambda: EVENTS.append("barrier")
    )
    monkeypatch.setattr(module, "dist", group)
    assert on_a_gpu(model, processor)._llm.options["distributed_executor_backend"] == "external_launcher"
    assert EVENTS == ["engine", "barrier"]


def test_a_vllm_build_for_another_device_is_refused(model, processor, monkeypatch):
    pytest.importorskip("vllm")
    with pytest.raises(JigsawError, match=r"this vLLM is built for the CPU and the trainer computes on a GPU; .*gpu"):
        on_a_gpu(model, processor)


def test_a_machine_without_vllm_is_reported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(JigsawError, match=r"vLLM is not installed; .*engine: transformers"):
        require_vllm()
