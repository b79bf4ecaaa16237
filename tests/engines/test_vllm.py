"""vLLM in this process: prompts, pixels and weights are the trainer's, before and after weight updates.

The engine is vLLM's CPU build; what it would be told on a GPU is asserted on a recorder in its place.
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
    """A prompt with images of given sizes, unlike any other."""
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
    """The versions of a model's weights."""

    def __init__(self, model) -> None:
        self.model, self.version = model, -1

    def next(self) -> Policy:
        self.version += 1
        return Policy(self.model, version=self.version)


def compare(engine: VllmEngine, policy: Policy, processor, *, temperature: float = 1.0) -> float:
    """Mean absolute difference of the log-probabilities of completions that vLLM samples."""
    engine.sync(policy)
    prompts = PromptBatch.encode(policy.model, processor, ROWS, "cpu")
    forbidden = vision_token_ids(processor)
    settings = Sampling(
        count=3, max_tokens=16, seeds=(0, 1, 2, 3), temperature=temperature, forbidden_tokens=tuple(forbidden)
    )
    found = engine.generate(ROWS, settings, prompts)
    width = max(map(len, found.tokens))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in found.tokens])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in found.tokens])
    sampled = torch.tensor([row + [0.0] * (width - len(row)) for row in found.log_probabilities])
    owner = torch.arange(len(ROWS)).repeat_interleave(3)
    with torch.no_grad():
        ours, _ = log_probabilities(
            policy.model, prompts, owner.tolist(), ids, mask, temperature=temperature, forbidden_tokens=forbidden
        )
    return float(((ours - sampled).abs() * mask).sum() / mask.sum())


@pytest.mark.parametrize("kind", ["untied head", "tied head", "neo"])
def test_log_probabilities_are_the_trainers_before_and_after_updates(make_checkpoint, neo_checkpoint, kind: str):
    pytest.importorskip("vllm")
    path = neo_checkpoint if kind == "neo" else make_checkpoint(tie_word_embeddings=kind == "tied head")
    model, processor = load_model(str(path)), load_processor(str(path))
    policies = Policies(model)
    engine = colocated_engine(model.config, processor, ROLLOUT, device="cpu", dtype="float32", seed=0, completions=24)
    assert compare(engine, policies.next(), processor) < 1e-5
    for _ in range(2):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.03)
        assert compare(engine, policies.next(), processor) < 1e-5
    assert compare(engine, policies.next(), processor, temperature=0.7) < 1e-5

    prompts = PromptBatch.encode(model, processor, ROWS, "cpu")
    pair = prompts.select([1, 2])

    def draw(seeds: tuple[int, ...], **changes) -> list[list[int]]:
        settings = Sampling(**{"count": 3, "max_tokens": 8, "seeds": seeds} | changes)
        rows, batch = (ROWS, prompts) if len(seeds) == 4 else (ROWS[1:3], pair)
        return engine.generate(rows, settings, batch).tokens

    first = draw((0, 1, 2, 3))
    engine.sync(policies.next())
    assert draw((1, 2)) == first[3:9]

    ends = {first[3][2], first[6][1]}  # tokens that were sampled in the middle of completions
    ended = draw((1, 2), end_tokens=tuple(sorted(ends)))
    for whole, short in zip(first[3:9], ended, strict=True):
        place = next((place for place, token in enumerate(whole) if token in ends), len(whole) - 1)
        assert short == whole[: place + 1]
    assert min(map(len, ended)) < 8

    greedy = Sampling(max_tokens=8, temperature=0.0)
    alone = engine.generate(ROWS[:1], greedy)  # without the trainer's prompts, as in an evaluation
    assert alone.log_probabilities is None and engine.generate(ROWS, greedy).tokens[0] == alone.tokens[0]
    assert engine.generate([], greedy).tokens == []

    prompts.input_ids[0, -1] += 1
    with pytest.raises(JigsawError, match="row row-0: vLLM read a prompt of"):
        draw((0, 1, 2, 3), max_tokens=1)
    prompts.input_ids[0, -1] -= 1
    with pytest.raises(JigsawError, match=r"row row-0: its prompt of .* rollout\.max_model_len=2048; set it to \d+ or"):
        draw((0, 1, 2, 3), max_tokens=2048)

    forbidden = vision_token_ids(processor)
    with torch.no_grad():  # even where the model wants nothing else
        head = model.get_output_embeddings().weight
        head[forbidden] = 3 * torch.sign(head[forbidden])
    engine.sync(policies.next())
    tokens = draw((0, 1, 2, 3), count=8, forbidden_tokens=tuple(forbidden))
    assert not {token for row in tokens for token in row} & set(forbidden)
    engine.close()


class Recorder:
    """In place of `vllm.LLM`: keeps what it is given and what it is told, and starts nothing."""

    def __init__(self, **options) -> None:
        self.options, self.calls = options, []
        torch.manual_seed(0)  # as vLLM does
        self.model_config = SimpleNamespace(max_model_len=2048)
        self.llm_engine = SimpleNamespace(reset_encoder_cache=lambda: self.calls.append("reset_encoder_cache"))
        EVENTS.append("engine")

    def __getattr__(self, name: str):
        return lambda *given, **named: self.calls.append((name, given, named) if given or named else name)


EVENTS: list[str] = []


@pytest.fixture
def recorder(monkeypatch):
    """vLLM as it is on a GPU, with an engine that starts nothing."""
    vllm = pytest.importorskip("vllm")
    from vllm.platforms import current_platform

    EVENTS.clear()
    monkeypatch.setattr(vllm, "LLM", Recorder)
    monkeypatch.setattr(type(current_platform), "is_cpu", lambda self: False)
    return Recorder


def on_a_gpu(model, processor, **rollout) -> VllmEngine:
    """The engine of a trainer that computes on a GPU, while the model is still on the CPU, as with DeepSpeed."""
    settings = RolloutSection(engine="vllm", max_model_len=2048, **rollout)
    return colocated_engine(
        model.config, processor, settings, device=torch.device("cuda", 0), dtype="bfloat16", seed=0, completions=256
    )


def test_an_engine_on_a_gpu_has_graphs_chunks_and_sleep_wherever_the_model_is(recorder, model, processor):
    options = on_a_gpu(model, processor, sleep=True, gpu_memory_utilization=0.4)._llm.options
    wanted = {
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
    assert {name: options[name] for name in wanted} == wanted
    assert "distributed_executor_backend" not in options


def test_weights_reach_a_sleeping_engine_once_per_version(recorder, model, processor):
    """In vLLM's order: weights, reload, then the cache; by its public call, which sets its configuration first."""
    engine = on_a_gpu(model, processor, sleep=True)
    told = engine._llm.calls
    assert told == [("sleep", (), {"level": 2})]
    del told[:]
    engine.sync(Policy(model, version=3))
    names = [call if isinstance(call, str) else call[0] for call in told]
    assert names == [
        "wake_up", "collective_rpc", "apply_model", "reset_prefix_cache", "reset_encoder_cache", "wake_up"
    ]  # fmt: skip
    assert told[1][1] == ("reload_weights",) and [*dict(told[1][2]["kwargs"]["weights_iterator"])] == [
        name for name, _ in model.named_parameters()
    ]
    assert [call[2]["tags"] for call in told if call[0] == "wake_up"] == [["weights"], ["kv_cache"]]
    del told[:]
    engine.sync(Policy(model, version=3))
    assert told == []
    engine.sleep()
    engine.sync(Policy(model, version=3))  # asleep, the engine has forgotten them
    assert len(told) == 7


def test_making_an_engine_leaves_the_random_state_alone(recorder, model, processor):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    on_a_gpu(model, processor)
    assert torch.equal(torch.rand(3), expected)


def test_processes_wait_for_each_other_once_their_engines_are_made(recorder, model, processor, monkeypatch):
    group = SimpleNamespace(
        is_initialized=lambda: True, get_world_size=lambda: 2, barrier=lambda: EVENTS.append("barrier")
    )
    monkeypatch.setattr(module, "dist", group)
    assert on_a_gpu(model, processor)._llm.options["distributed_executor_backend"] == "external_launcher"
    assert EVENTS == ["engine", "barrier"]


def test_a_build_for_another_device_than_the_trainers_is_refused(model, processor, monkeypatch):
    pytest.importorskip("vllm")
    with pytest.raises(JigsawError, match=r"this vLLM is built for the CPU and the trainer computes on a GPU; .*gpu"):
        on_a_gpu(model, processor)


def test_a_machine_without_vllm_is_reported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(JigsawError, match=r"vLLM is not installed; .*engine: transformers"):
        require_vllm()
