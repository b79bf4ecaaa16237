"""Ask a model to solve puzzles: rows of a puzzle set in, the rows' small columns with the completion out, in order.

Greedy decoding with `transformers`. Every medium of a row must have its placeholder in the prompt and the other way
round; a mismatch is an error, never a puzzle with a missing piece.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jigsaw.errors import JigsawError
from jigsaw.models.load import vision_token_ids

LARGE = ("prompt", "images", "videos")
"""Columns that are not kept with a completion."""


def with_media(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The row's chat messages with each placeholder part holding its medium.

    Args:
        row: `prompt` with `{"type": "image"}` and `{"type": "video"}` parts, and `images` and `videos` in prompt order.

    Raises:
        JigsawError: placeholders and media do not match in number.
    """
    media = {kind: list(row.get(f"{kind}s") or ()) for kind in ("image", "video")}
    for kind, given in media.items():
        wanted = sum(part["type"] == kind for message in row["prompt"] for part in message["content"])
        if wanted != len(given):
            article = "an" if kind == "image" else "a"
            missing, left = max(wanted - len(given), 0), max(len(given) - wanted, 0)
            raise JigsawError(
                f"puzzle {row.get('id')}: {missing} placeholders without {article} {kind}, {left} {kind}s without one"
            )
    queues = {kind: iter(given) for kind, given in media.items()}
    return [
        {
            "role": message["role"],
            "content": [
                {"type": part["type"], part["type"]: next(queues[part["type"]])} if part["type"] in queues else part
                for part in message["content"]
            ],
        }
        for message in row["prompt"]
    ]


def solve(
    model: Any,
    processor: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    batch_size: int = 64,
    max_new_tokens: int = 1024,
    on_batch: Callable[[int], object] = lambda _: None,
) -> list[dict[str, Any]]:
    """Greedy completions of puzzle rows. Each row is read, and rendered, once.

    Args:
        model: on its device; its mode (training or evaluation) is left as found.
        processor: of the same checkpoint.
        rows: indexable rows with `prompt` and media, as `load_puzzles` gives them.
        batch_size: rows that are generated together.
        max_new_tokens: completion limit.
        on_batch: called with the number of rows done after each batch.

    Returns:
        Per row its columns less prompt and media, and `completion`: the text, special tokens left out.
    """
    import torch

    suppressed = vision_token_ids(processor)
    solved: list[dict[str, Any]] = []
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(rows), batch_size):
            batch = [rows[i] for i in range(start, min(start + batch_size, len(rows)))]
            inputs = processor.apply_chat_template(
                [with_media(row) for row in batch],
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
            for row, text in zip(batch, processor.batch_decode(completions, skip_special_tokens=True), strict=True):
                solved.append({key: value for key, value in row.items() if key not in LARGE} | {"completion": text})
            on_batch(len(solved))
    finally:
        model.train(was_training)
    return solved
