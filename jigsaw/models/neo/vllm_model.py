"""NEO for vLLM: the same computation with vLLM's layers, paged cache and scheduler, and the official weight names.

In: flattened batches of tokens with positions of three rows (T, T + row, T + column). vLLM increases all rows by one
per new token, which is right for text; T is subtracted again here. Out: hidden states and logits.

Image tokens attend to their complete image: on GPUs through the back end's image spans; on a CPU, whose back end has no
spans, the rows of image tokens are recomputed over their prompt (`see_own_image`). Keys have 2D channels, and values
too, with a second half of zeros, since vLLM's cache has one width.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from vllm.distributed import get_tensor_model_parallel_world_size
from vllm.forward_context import get_forward_context
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.linear import ColumnParallelLinear, QKVParallelLinear, RowParallelLinear
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.models.interfaces import MultiModalEmbeddings, SupportsMRoPE, SupportsMultiModal
from vllm.model_executor.models.qwen2 import Qwen2MLP, Qwen2Model
from vllm.model_executor.models.utils import AutoWeightsLoader, WeightsMapper, maybe_prefix
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.platforms import current_platform

import jigsaw.models.neo  # noqa: F401  # makes the processor known to transformers
from jigsaw.models.neo import indices
from jigsaw.models.neo.attention import rotary_tables, rotate
from jigsaw.models.neo.patches import NEOVisionModel
from jigsaw.models.neo.vllm_processing import NEODummyInputs, NEOMultiModalProcessor, NEOProcessingInfo

STACKED = WeightsMapper(
    orig_to_new_stacked={
        ".q_proj.": (".qkv_proj.", "q"),
        ".k_proj.": (".qkv_proj.", "k"),
        ".v_proj.": (".qkv_proj.", "v"),
        ".gate_proj.": (".gate_up_proj.", 0),
        ".up_proj.": (".gate_up_proj.", 1),
    }
)
"""Official names -> vLLM's fused layers. The dot at the end is needed, since `q_proj_hw` is another layer."""

Span = tuple[int, int, int]
"""First token of a prompt, first token of an image in it, and end of that image, as indices in the flattened batch."""


class Prepared(NamedTuple):
    """The inputs of all layers; a tuple, because vLLM compiles the stack in one graph.

    Attributes:
        tables: cosines and sines, `[tokens, 1, 2D]` each.
        spans: images with bidirectional attention, if the attention back end does not support spans.
    """

    tables: tuple[Tensor, Tensor]
    spans: list[Span]


def image_spans(times: Tensor, starts: list[int]) -> list[Span]:
    """The images with more than one token in a flattened batch: runs of the same T within a sequence.

    Args:
        times: T of every token, `[tokens]`.
        starts: the begins of the sequences, and the end of the last one.
    """
    spans = []
    values = times.tolist()
    for begin, end in pairwise(starts):
        first = begin
        for place in range(begin + 1, end + 1):
            if place == end or values[place] != values[first]:
                if place - first > 1:
                    spans.append((begin, first, place))
                first = place
    return spans


def see_own_image(query: Tensor, key: Tensor, value: Tensor, output: Tensor, spans: list[Span], scaling: float) -> None:
    """Replace the attention of image tokens in `output` with attention to all tokens up to the end of their image.

    Args:
        query: `[tokens, heads, 2D]`.
        key: `[tokens, key heads, 2D]`.
        value: `[tokens, key heads, 2D]`.
        output: `[tokens, heads, 2D]`, causal attention; rows of image tokens are replaced.
        spans: the result of `image_spans`; prompts must be complete.
        scaling: factor on the scores.
    """
    for begin, first, end in spans:
        rows = nn.functional.scaled_dot_product_attention(
            query[first:end].transpose(0, 1)[None],
            key[begin:end].transpose(0, 1)[None],
            value[begin:end].transpose(0, 1)[None],
            scale=scaling,
            enable_gqa=True,
        )
        output[first:end] = rows[0].transpose(0, 1)


class NEOAttention(nn.Module):
    """The attention of one layer; `positions` in its forward pass is the `Prepared` tuple of `NEOTextModel`."""

    def __init__(self, config: Any, cache_config: Any, quant_config: Any, prefix: str) -> None:
        super().__init__()
        shards = get_tensor_model_parallel_world_size()
        self.head_dim = config.head_dim
        self.heads, self.key_heads = config.num_attention_heads // shards, config.num_key_value_heads // shards
        self.scaling = self.head_dim**-0.5
        self.qkv_proj = QKVParallelLinear(
            config.hidden_size,
            self.head_dim,
            config.num_attention_heads,
            config.num_key_value_heads,
            bias=config.attention_bias,
            quant_config=quant_config,
            prefix=f"{prefix}.qkv_proj",
        )
        for name, heads in (("q_proj_hw", config.num_attention_heads), ("k_proj_hw", config.num_key_value_heads)):
            projection = ColumnParallelLinear(
                config.hidden_size,
                heads * self.head_dim,
                bias=config.attention_bias,
                quant_config=quant_config,
                prefix=f"{prefix}.{name}",
            )
            setattr(self, name, projection)
        self.o_proj = RowParallelLinear(
            config.num_attention_heads * self.head_dim,
            config.hidden_size,
            bias=config.attention_bias,
            quant_config=quant_config,
            prefix=f"{prefix}.o_proj",
        )
        for name, width in (("", 1), ("_h", 2), ("_w", 2)):
            for side in "qk":
                setattr(self, f"{side}_norm{name}", RMSNorm(self.head_dim // width, eps=config.rms_norm_eps))
        self.attn = Attention(
            self.heads,
            2 * self.head_dim,
            self.scaling,
            num_kv_heads=self.key_heads,
            cache_config=cache_config,
            quant_config=quant_config,
            prefix=f"{prefix}.attn",
        )

    def _wide(self, side: str, own: Tensor, hidden_states: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """Queries or keys of width 2D, `[tokens, heads, 2D]`, rotated."""
        by_head = own.unflatten(-1, (-1, self.head_dim))
        placed = getattr(self, f"{side}_proj_hw")(hidden_states)[0].unflatten(-1, (-1, self.head_dim))
        row, column = placed.chunk(2, dim=-1)
        parts = [
            getattr(self, f"{side}_norm{name}")(part.contiguous())
            for name, part in (("", by_head), ("_h", row), ("_w", column))
        ]
        return rotate(torch.cat(parts, dim=-1), tables)

    def forward(self, positions: Prepared, hidden_states: Tensor) -> Tensor:
        """Attend, `[tokens, hidden_size]`."""
        width, keys = self.head_dim, self.key_heads * self.head_dim
        qkv, _ = self.qkv_proj(hidden_states)
        own_query, own_key, value = qkv.split([self.heads * width, keys, keys], dim=-1)
        query = self._wide("q", own_query, hidden_states, positions.tables)
        key = self._wide("k", own_key, hidden_states, positions.tables)
        value = nn.functional.pad(value.unflatten(-1, (-1, width)), (0, width))
        output = self.attn(query.flatten(1), key.flatten(1), value.flatten(1)).view_as(query)
        see_own_image(query, key, value, output, positions.spans, self.scaling)
        return self.o_proj(output[..., :width].flatten(1))[0]


class NEODecoderLayer(nn.Module):
    """A decoder layer with the same order of operations as in Qwen3."""

    def __init__(self, config: Any, cache_config: Any = None, quant_config: Any = None, prefix: str = "") -> None:
        super().__init__()
        self.self_attn = NEOAttention(config, cache_config, quant_config, prefix=f"{prefix}.self_attn")
        self.mlp = Qwen2MLP(
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            hidden_act=config.hidden_act,
            quant_config=quant_config,
            prefix=f"{prefix}.mlp",
        )
        self.input_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, positions: Any, hidden_states: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        """Run the layer; the residual is passed in addition to the hidden states."""
        if residual is None:
            residual, hidden_states = hidden_states, self.input_layernorm(hidden_states)
        else:
            hidden_states, residual = self.input_layernorm(hidden_states, residual)
        hidden_states, residual = self.post_attention_layernorm(self.self_attn(positions, hidden_states), residual)
        return self.mlp(hidden_states), residual


class NEOTextModel(Qwen2Model):  # type: ignore[misc]  # vLLM comes without types here
    """The stack: vLLM's Qwen2 loop over NEO's layers."""

    hf_to_vllm_mapper = STACKED

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix, decoder_layer_type=NEODecoderLayer)

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
    ) -> Any:
        """Compute rotary tables and image spans once, and run the layers.

        Args:
            input_ids: `[tokens]`.
            positions: `[3, tokens]`: T, T + row, T + column.
            intermediate_tensors: tensors of an earlier pipeline stage.
            inputs_embeds: `[tokens, hidden_size]`, with images.
        """
        indices_of_tokens = torch.stack([positions[0], positions[1] - positions[0], positions[2] - positions[0]])
        dtype = self.norm.weight.dtype
        cos, sin = rotary_tables(indices_of_tokens[:, None], self.config, dtype)
        prepared = Prepared(
            tables=(cos[0].transpose(0, 1), sin[0].transpose(0, 1)),
            spans=_spans_of_batch(positions[0]) if current_platform.is_cpu() else [],
        )
        return super().forward(input_ids, prepared, intermediate_tensors, inputs_embeds)


def _spans_of_batch(times: Tensor) -> list[Span]:
    metadata = get_forward_context().attn_metadata
    if not metadata:  # profiling
        return []
    one = next(iter(metadata.values()))
    return image_spans(times, one.query_start_loc.tolist())


class NEOLanguageModel(nn.Module):
    """The stack and its head, with the official names."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__()
        config = vllm_config.model_config.hf_config.llm_config
        self.model = NEOTextModel(vllm_config=vllm_config, prefix=maybe_prefix(prefix, "model"))
        self.lm_head = ParallelLMHead(
            config.vocab_size,
            config.hidden_size,
            quant_config=vllm_config.quant_config,
            prefix=maybe_prefix(prefix, "lm_head"),
        )
        if config.tie_word_embeddings:
            self.lm_head = self.lm_head.tie_weights(self.model.embed_tokens)

    def embed_input_ids(self, input_ids: Tensor) -> Tensor:
        """Token embeddings, `[tokens, hidden_size]`."""
        return self.model.embed_input_ids(input_ids)


@MULTIMODAL_REGISTRY.register_processor(NEOMultiModalProcessor, info=NEOProcessingInfo, dummy_inputs=NEODummyInputs)
class NEOForVLLM(nn.Module, SupportsMultiModal, SupportsMRoPE):  # type: ignore[misc]
    """NEO for vLLM's registry, registered as `NEOChatModel`."""

    hf_to_vllm_mapper = STACKED

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__()
        self.config = vllm_config.model_config.hf_config
        model: Any = self  # vLLM's types are not available here
        with model._mark_tower_model(vllm_config, {"image"}):
            self.vision_model = NEOVisionModel(self.config.vision_config)
        with model._mark_language_model(vllm_config):
            self.language_model = NEOLanguageModel(
                vllm_config=vllm_config, prefix=maybe_prefix(prefix, "language_model")
            )
        self.logits_processor = LogitsProcessor(self.config.llm_config.vocab_size)
        self.make_empty_intermediate_tensors = self.language_model.model.make_empty_intermediate_tensors

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        """The placeholder of a medium in a prompt."""
        if modality.startswith("image"):
            return "<img><IMG_CONTEXT></img>"
        raise ValueError(f"NEO takes images only, not {modality}; pass a video as time-stamped images")

    def get_language_model(self) -> nn.Module:
        """The language model."""
        return self.language_model

    def embed_input_ids(self, input_ids: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Token embeddings, with those of images."""
        return SupportsMultiModal.embed_input_ids(self, input_ids, *args, **kwargs)

    def embed_multimodal(self, **kwargs: Any) -> MultiModalEmbeddings:
        """Tokens of images, one tensor each."""
        pixel_values, grid = kwargs.get("pixel_values"), kwargs.get("image_grid_thw")
        if pixel_values is None or grid is None:
            return []
        embedded = self.vision_model.embeddings(pixel_values, grid)
        return embedded.split(indices.tokens_per_image(grid, self.config.vision_config.merge_size).tolist())

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: list[Any]) -> tuple[Tensor, int]:
        """Positions `[3, tokens]` as (T, T + row, T + column), and the T of a new token minus its number."""
        features = sorted(mm_features, key=lambda feature: feature.mm_position.offset)
        grids = [feature.data["image_grid_thw"].data.view(3) for feature in features]
        grid = torch.stack(grids) if grids else None
        merge = self.config.vision_config.merge_size
        numbers = indices.image_numbers(
            torch.tensor(input_tokens)[None], grid, image_token_id=self.config.image_token_id, merge_size=merge
        )
        time, row, column = indices.position_indices(numbers, grid, merge_size=merge)[:, 0]
        return torch.stack([time, time + row, time + column]), int(time[-1]) + 1 - len(input_tokens)

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
        **_: Any,
    ) -> Any:
        """Hidden states, `[tokens, hidden_size]`; arguments as in `NEOTextModel.forward`."""
        return self.language_model.model(input_ids, positions, intermediate_tensors, inputs_embeds)

    def compute_logits(self, hidden_states: Tensor) -> Tensor | None:
        """Logits, `[tokens, vocabulary]`."""
        return self.logits_processor(self.language_model.lm_head, hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Load weights with the official names."""
        loaded: set[str] = AutoWeightsLoader(self).load_weights(weights, mapper=self.hf_to_vllm_mapper)
        return loaded
