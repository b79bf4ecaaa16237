"""The sizes of a model for estimates of memory and time, read from its configuration without torch.

In: a local folder, a hub id, or the content of a `config.json`. Out: a `Shape` with the numbers of parameters. If there
is no configuration, the published sizes of the models in the recipes are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import ceil, sqrt
from pathlib import Path
from typing import Any

from jigsaw.errors import JigsawError
from jigsaw.models.checkpoint_files import cached, is_local, read_config
from jigsaw.models.families import require_supported

COMPUTED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "neo_chat")
"""Architectures whose memory and time can be estimated."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a vision-language model.

    Attributes:
        layers, hidden, feed_forward, vocabulary: sizes of the language model.
        query, key: total widths of the query heads and of the key-value heads.
        tied: whether the output head is the input embedding.
        attention: parameters of the attention in one layer.
        vision: parameters of the vision tower and the projector.
        vision_layers, vision_hidden: sizes of the vision tower; 0 layers for a model without one.
        windowed: layers of the vision tower with window attention.
        unit: side of a visual token in pixels.
        temporal: video frames per visual token.
        stamps: whether every frame, or pair of frames, of a video has a time stamp in the text.
        cache_width: numbers per token and layer in vLLM's cache.
        min_pixels: default minimum pixels of an image; smaller images are enlarged.
    """

    layers: int
    hidden: int
    feed_forward: int
    vocabulary: int
    query: int
    key: int
    tied: bool
    attention: int
    vision: int
    vision_layers: int
    vision_hidden: int
    windowed: int
    unit: int
    temporal: int
    stamps: bool
    cache_width: int
    min_pixels: int

    @property
    def layer(self) -> int:
        """Parameters of one layer of the language model."""
        return self.attention + 3 * self.hidden * self.feed_forward + 2 * self.hidden

    @property
    def embedding(self) -> int:
        """Parameters of the input embedding, and of the output head."""
        return self.vocabulary * self.hidden

    @property
    def text(self) -> int:
        """Parameters of the language model, embedding and head included."""
        return self.layers * self.layer + self.embedding * (1 if self.tied else 2) + self.hidden

    @property
    def parameters(self) -> int:
        """Parameters of the whole model."""
        return self.text + self.vision

    def visual_tokens(self, width: float, height: float, low: int | None = None, high: int | None = None) -> int:
        """Visual tokens of an image after its processor has resized it to the pixel limits.

        Args:
            width, height: size of the image in pixels.
            low, high: pixel limits; None for the model's minimum, and for no maximum.
        """
        columns, rows = (max(1, round(side / self.unit)) for side in (width, height))
        shown, low = columns * rows * self.unit**2, low or self.min_pixels
        if high is not None and shown > high:
            scale = sqrt(high / (width * height)) / self.unit
            columns, rows = (max(1, int(side * scale)) for side in (width, height))
        elif shown < low:
            scale = sqrt(low / (width * height)) / self.unit
            columns, rows = (ceil(side * scale - 1e-9) for side in (width, height))
        return columns * rows

    def adapters(self, rank: int) -> int:
        """Parameters of low-rank adapters on all linear layers of the language model.

        Args:
            rank: rank of the adapters.
        """
        attention = 2 * (self.hidden + self.query) + 2 * (self.hidden + self.key)
        return rank * self.layers * (attention + 3 * (self.hidden + self.feed_forward))


def shape_of(path: str) -> Shape | None:
    """The sizes of a model; None if there is no configuration and its name is unknown.

    Args:
        path: a local folder or a hub id.
    """
    folder = Path(path) if is_local(path) else cached(path)
    if folder is not None:
        try:
            return shape_of_config(read_config(folder))
        except (JigsawError, KeyError, TypeError):
            pass  # missing or incomplete; its name may still be known
    name = path.rstrip("/").lower()
    return next((shape_of_config(config) for known, config in KNOWN.items() if fnmatchcase(name, known)), None)


def shape_of_config(config: Mapping[str, Any]) -> Shape:
    """The sizes in a `config.json`.

    Args:
        config: its content, in the layout of the hub or of transformers 5.

    Raises:
        JigsawError: the architecture is not supported, or there are no estimates for it.
        KeyError: a size is missing.
    """
    kind = require_supported(config, "config.json")
    if kind == "neo_chat":
        return _neo(config)
    if kind not in COMPUTED:
        raise JigsawError(f"memory and time of {kind} cannot be estimated")
    text = config.get("text_config") or config
    return _qwen(kind, text, config["vision_config"], bool(config.get("tie_word_embeddings", False)))


def _qwen(kind: str, text: Mapping[str, Any], vision: Mapping[str, Any], tied: bool) -> Shape:
    hidden, heads = text["hidden_size"], text["num_attention_heads"]
    head = text.get("head_dim") or hidden // heads
    query, key = heads * head, text["num_key_value_heads"] * head
    extra = 2 * head if kind == "qwen3_vl" else query + 2 * key  # norms of query and key, or biases
    # In Qwen2-VL, `embed_dim` is the tower's own width and `hidden_size` its output width.
    inner = vision.get("embed_dim") or vision["hidden_size"]
    wide = vision.get("intermediate_size") or int(inner * vision.get("mlp_ratio", 4))
    depth, patch = vision["depth"], vision.get("patch_size", 14)
    projections = 3 if kind == "qwen2_5_vl" else 2  # of the feed-forward block, gated or not
    block = 4 * inner**2 + projections * inner * wide + 4 * inner + (projections - 1) * wide + 3 * inner
    merged = inner * vision.get("spatial_merge_size", 2) ** 2
    mergers = 1 + len(vision.get("deepstack_visual_indexes") or ())
    tower = depth * block + inner * 3 * 2 * patch**2
    full = vision.get("fullatt_block_indexes")
    return Shape(
        layers=text["num_hidden_layers"],
        hidden=hidden,
        feed_forward=text["intermediate_size"],
        vocabulary=text["vocab_size"],
        query=query,
        key=key,
        tied=tied,
        attention=2 * hidden * query + 2 * hidden * key + extra,
        vision=tower + mergers * (merged**2 + merged * hidden + merged + hidden + inner),
        vision_layers=depth,
        vision_hidden=inner,
        windowed=depth - len(full) if kind == "qwen2_5_vl" and full else 0,
        unit=patch * vision.get("spatial_merge_size", 2),
        temporal=2,
        stamps=kind == "qwen3_vl",
        cache_width=2 * key,
        min_pixels=3136,
    )


def _neo(config: Mapping[str, Any]) -> Shape:
    text, vision = config["llm_config"], config.get("vision_config") or {}
    hidden, head = text["hidden_size"], text.get("head_dim", 128)
    query, key = text["num_attention_heads"] * head, text["num_key_value_heads"] * head
    inner, patch = vision.get("hidden_size", 1024), vision.get("patch_size", 16)
    return Shape(
        layers=text["num_hidden_layers"],
        hidden=hidden,
        feed_forward=text["intermediate_size"],
        vocabulary=text["vocab_size"],
        query=query,
        key=key,
        tied=bool(config.get("tie_word_embeddings") or text.get("tie_word_embeddings")),
        # Queries and keys have a second half for rows and columns, each with two more norms.
        attention=3 * hidden * query + 3 * hidden * key + 4 * head,
        vision=3 * patch**2 * inner + inner + 4 * inner * hidden + hidden,
        vision_layers=0,
        vision_hidden=inner,
        windowed=0,
        unit=2 * patch,
        temporal=1,  # a video is its frames as images
        stamps=True,
        cache_width=4 * key,  # vLLM stores values as wide as keys, which are twice a head
        min_pixels=vision.get("min_pixels", 65536),
    )


def _qwen25(hidden: int, feed_forward: int, layers: int, heads: tuple[int, int], vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": "qwen2_5_vl",
        "hidden_size": hidden,
        "intermediate_size": feed_forward,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "vocab_size": vocabulary,
        "tie_word_embeddings": hidden == 2048,
        "vision_config": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
    }


def _qwen3(hidden: int, feed_forward: int, layers: int, heads: int, vision: tuple[int, int, int]) -> dict[str, Any]:
    depth, inner, wide = vision
    return {
        "model_type": "qwen3_vl",
        "text_config": {
            "hidden_size": hidden,
            "intermediate_size": feed_forward,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "vocab_size": 151936,
        },
        "tie_word_embeddings": hidden < 4096,
        "vision_config": {
            "depth": depth,
            "hidden_size": inner,
            "intermediate_size": wide,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "deepstack_visual_indexes": [1, 2, 3],
        },
    }


def _neo1(hidden: int, feed_forward: int, layers: int, heads: int) -> dict[str, Any]:
    text = {
        "hidden_size": hidden,
        "intermediate_size": feed_forward,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
    }
    return {"model_type": "neo_chat", "llm_config": text}


KNOWN: Mapping[str, Mapping[str, Any]] = {
    "*qwen2.5-vl-3b*": _qwen25(2048, 11008, 36, (16, 2), 151936),
    "*qwen2.5-vl-7b*": _qwen25(3584, 18944, 28, (28, 4), 152064),
    "*thinklite-vl-7b*": _qwen25(3584, 18944, 28, (28, 4), 152064),
    "*mimo-vl-7b*": _qwen25(4096, 11008, 36, (32, 8), 151680),
    "*qwen3-vl-2b*": _qwen3(2048, 6144, 28, 16, (24, 1024, 4096)),
    "*qwen3-vl-4b*": _qwen3(2560, 9728, 36, 32, (24, 1024, 4096)),
    "*qwen3-vl-8b*": _qwen3(4096, 12288, 36, 32, (27, 1152, 4304)),
    "*neo1_[05]-2b*": _neo1(2048, 6144, 40, 16),
    "*neo-2b*": _neo1(2048, 6144, 40, 16),
    "*neo1_[05]-9b*": _neo1(4096, 12288, 42, 32),
    "*neo-9b*": _neo1(4096, 12288, 42, 32),
}
"""Published sizes, by a pattern of the path in lower case."""
