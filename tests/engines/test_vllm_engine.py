"""Rollouts by vLLM's CPU build: prompts, pixels and weights are the trainer's, before and after weight updates."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from jigsaw.config.schema import RolloutSection
from jigsaw.engines.vllm import VllmEngine, check_room, require_vllm
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


def compare(engine: VllmEngine, model, processor, *, temperature: float = 1.0) -> float:
    """Mean absolute difference of the log-probabilities of completions that vLLM samples."""
    engine.sync(model)
    prompts = PromptBatch.encode(model, processor, ROWS, "cpu")
    tokens, logps = engine.generate(
        ROWS, prompts.token_lists(), 3, seeds=range(len(ROWS)), max_tokens=16, temperature=temperature
    )
    width = max(map(len, tokens))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in tokens])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in tokens])
    sampled = torch.tensor([row + [0.0] * (width - len(row)) for row in logps])
    owner = torch.arange(len(ROWS)).repeat_interleave(3)
    forbidden = vision_token_ids(processor)
    with torch.no_grad():
        ours, _ = log_probabilities(
            model, prompts, owner.tolist(), ids, mask, temperature=temperature, forbidden_tokens=forbidden
        )
    return float(((ours - sampled).abs() * mask).sum() / mask.sum())


@pytest.mark.parametrize("kind", ["untied head", "tied head", "neo"])
def test_log_probabilities_are_the_trainers_before_and_after_updates(make_checkpoint, neo_checkpoint, kind: str):
    pytest.importorskip("vllm")
    path = neo_checkpoint if kind == "neo" else make_checkpoint(tie_word_embeddings=kind == "tied head")
    model, processor = load_model(str(path)), load_processor(str(path))
    engine = VllmEngine(model, processor, ROLLOUT, vision_token_ids(processor))
    assert compare(engine, model, processor) < 1e-5
    for _ in range(2):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.03)
        assert compare(engine, model, processor) < 1e-5
    assert compare(engine, model, processor, temperature=0.7) < 1e-5

    prompts = PromptBatch.encode(model, processor, ROWS, "cpu").token_lists()
    first = engine.generate(ROWS, prompts, 3, seeds=range(4), max_tokens=8)
    engine.sync(model)
    assert engine.generate(ROWS[1:3], prompts[1:3], 3, seeds=[1, 2], max_tokens=8)[0] == first[0][3:9]

    ends = {first[0][3][2], first[0][6][1]}  # tokens that were sampled in the middle of completions
    ended = engine.generate(ROWS[1:3], prompts[1:3], 3, seeds=[1, 2], max_tokens=8, end_tokens=sorted(ends))[0]
    for whole, short in zip(first[0][3:9], ended, strict=True):
        place = next((place for place, token in enumerate(whole) if token in ends), len(whole) - 1)
        assert short == whole[: place + 1]
    assert min(map(len, ended)) < 8

    other = [[*prompt[:-1], prompt[-1] + 1] for prompt in prompts]
    with pytest.raises(JigsawError, match="row row-0: vLLM read a prompt of"):
        engine.generate(ROWS, other, 1, seeds=range(4), max_tokens=1)

    forbidden = vision_token_ids(processor)
    with torch.no_grad():  # even where the model wants nothing else
        head = model.get_output_embeddings().weight
        head[forbidden] = 3 * torch.sign(head[forbidden])
    engine.sync(model)
    tokens, _ = engine.generate(ROWS, prompts, 8, seeds=range(4), max_tokens=8)
    assert not {token for row in tokens for token in row} & set(forbidden)


def test_a_machine_without_vllm_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(JigsawError, match=r"vllm is not installed; .*engine: transformers"):
        require_vllm()


def test_a_prompt_that_leaves_no_room_for_its_completion_is_told():
    check_room([{"id": "a"}], [[1, 2, 3]], completion=5, room=8)
    with pytest.raises(JigsawError, match=r"row b: its prompt of 4 .* rollout\.max_model_len=8; set it to 9 or more"):
        check_room([{"id": "a"}, {"id": "b"}], [[1, 2, 3], [1, 2, 3, 4]], completion=5, room=8)
