"""Ask a model to solve puzzles: rows of a puzzle set in, completions as text out, in the same order.

Greedy decoding with `transformers`. Every medium of a row must have its placeholder in the prompt and the other way round;
a mismatch is an error, never a puzzle with a missing piece.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jigsaw.errors import JigsawError
from jigsaw.models.load import vision_token_ids


def with_media(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The row's chat messages with each placeholder part holding its medium.

    Args:
        row: `prompt` with `{"type": "image"}` parts and `images`, in prompt order.

    Raises:
        JigsawError: placeholders and media do not match in number.
    """
    images = iter(row.get("images") or ())
    messages, missing = [], 0
    for message in row["prompt"]:
        parts = []
        for part in message["content"]:
            if part["type"] == "image":
                image = next(images, None)
                missing += image is None
                part = {"type": "image", "image": image}
            parts.append(part)
        messages.append({"role": message["role"], "content": parts})
    left = len(list(images))
    if missing or left:
        raise JigsawError(f"puzzle {row.get('id')}: {missing} placeholders without an image, {left} images without one")
    return messages


def generate_greedy(
    model: Any,
    processor: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    batch_size: int = 64,
    max_new_tokens: int = 1024,
    on_batch: Callable[[int], object] = lambda _: None,
) -> list[str]:
    """Greedy completions of puzzle rows.

    Args:
        model: on its device; its mode (training or evaluation) is left as found.
        processor: of the same checkpoint.
        rows: indexable rows with `prompt` and media, as `load_puzzles` gives them.
        batch_size: rows that are generated together.
        max_new_tokens: completion limit.
        on_batch: called with the number of rows done after each batch.

    Returns:
        One text per row, special tokens left out.
    """
    import torch

    suppressed = vision_token_ids(processor)
    texts: list[str] = []
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(rows), batch_size):
            conversations = [with_media(rows[i]) for i in range(start, min(start + batch_size, len(rows)))]
            inputs = processor.apply_chat_template(
                conversations,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                processor_kwargs={"padding": True},
            ).to(model.device)
            with torch.inference_mode():
                output = model.generate(
                    **inputs,
                    do_sample=False,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                    max_new_tokens=max_new_tokens,
                    suppress_tokens=suppressed,
                )
            completions = output[:, inputs["input_ids"].shape[1] :]
            texts += processor.batch_decode(completions, skip_special_tokens=True)
            on_batch(len(texts))
    finally:
        model.train(was_training)
    return texts
