"""A tiny NEO from random weights, for laptops and tests, of the real classes with small sizes.

In: sizes and a tokenizer. Out: model and processor, which `jigsaw.models.tiny` writes to disk.
"""

from __future__ import annotations

from typing import Any

from jigsaw.models.neo.configuration import NEOChatConfig
from jigsaw.models.neo.model import NEOChatModel
from jigsaw.models.neo.processing import SPECIAL_TOKENS, NEOImageProcessor, NEOProcessor


def tiny_neo(sizes: Any, tokenizer: Any) -> tuple[NEOChatModel, NEOProcessor]:
    """Create a tiny NEO.

    Args:
        sizes: `jigsaw.models.tiny.TinySizes`. `vision_layers` is the number of pre-Buffer layers, in addition to
            `num_layers`; `vision_hidden_size` is the width between the two convolutions.
        tokenizer: a small one; NEO's three image tokens are added to it.
    """
    tokenizer.add_special_tokens({"extra_special_tokens": list(SPECIAL_TOKENS)}, replace_extra_special_tokens=False)
    context, start, end = map(tokenizer.convert_tokens_to_ids, SPECIAL_TOKENS)
    heads = sizes.hidden_size // sizes.head_size
    limits = {"shortest_edge": 32 * 32, "longest_edge": 1280 * 32 * 32}
    config = NEOChatConfig(
        llm_config={
            "vocab_size": len(tokenizer),
            "hidden_size": sizes.hidden_size,
            "intermediate_size": int(sizes.hidden_size * sizes.mlp_ratio),
            "num_hidden_layers": sizes.vision_layers + sizes.num_layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "head_dim": sizes.head_size,
            "initializer_range": sizes.initializer_range,
            "tie_word_embeddings": sizes.tie_word_embeddings,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "hidden_size": sizes.vision_hidden_size,
            "llm_hidden_size": sizes.hidden_size,
            "min_pixels": limits["shortest_edge"],
            "max_pixels": limits["longest_edge"],
        },
        image_token_id=context,
        image_start_token_id=start,
        image_end_token_id=end,
        architectures=["NEOChatModel"],
    )
    return NEOChatModel(config), NEOProcessor(NEOImageProcessor(size=limits), tokenizer)
