"""NEO's attention and its mask: queries and keys of 2D channels (time, row, column), values of D channels.

In: hidden states and the rotary tables of their (T, H, W) indices. Out: causal attention and, for image tokens,
attention to their complete image. The kernels are those of transformers: `eager`, `sdpa`, `flex_attention`, and
`flash_attention_*` for purely causal attention (text, decoding), since flash kernels support no other mask.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers.masking_utils import create_causal_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen3.modeling_qwen3 import (
    Qwen3Attention,
    Qwen3RMSNorm,
    eager_attention_forward,
    rotate_half,
)

from jigsaw.models.neo.configuration import NEOTextConfig

FLEX_BLOCK = 128
COMPILED_FROM = 1024
"""Number of tokens from which flex attention is compiled on a CPU; for fewer, compiling takes longer than the dense
computation. On other devices it is always compiled."""


def rotary_table(positions: Tensor, width: int, theta: float) -> Tensor:
    """Angles of a rotary embedding, float32, `[..., width / 2]`, for positions of any shape."""
    exponents = torch.arange(0, width, 2, dtype=torch.float32, device=positions.device) / width
    return positions[..., None].float() * theta**-exponents


def rotary_tables(position_ids: Tensor, config: NEOTextConfig, dtype: Any) -> tuple[Tensor, Tensor]:
    """Cosines and sines for the 2D channels of a head, `[B, 1, L, 2D]` each: D of time, D/2 of row, D/2 of column.

    Args:
        position_ids: `[3, B, L]`.
        config: configuration of the language model.
        dtype: data type of the result; the angles are float32.
    """
    half = config.head_dim // 2
    time, row, column = position_ids
    angles = [
        rotary_table(time, config.head_dim, config.rope_parameters["rope_theta"]),
        rotary_table(row, half, config.rope_theta_hw),
        rotary_table(column, half, config.rope_theta_hw),
    ]
    table = torch.cat([part for angle in angles for part in (angle, angle)], dim=-1)[:, None]
    return table.cos().to(dtype), table.sin().to(dtype)


def rotate(states: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate `[B, heads, L, 2D]`, the first half against its second within each of the three parts."""
    cos, sin = tables
    half = states.shape[-1] // 4
    parts = states.split([2 * half, half, half], dim=-1)
    return states * cos + torch.cat([rotate_half(part) for part in parts], dim=-1) * sin


class NEOAttention(Qwen3Attention):  # type: ignore[misc]  # transformers comes without types
    """Qwen3's attention with D additional channels per query and key head, half for the row and half for the column."""

    def __init__(self, config: NEOTextConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        width, half = config.hidden_size, config.head_dim // 2
        self.q_proj_hw = nn.Linear(width, config.num_attention_heads * self.head_dim, bias=config.attention_bias)
        self.k_proj_hw = nn.Linear(width, config.num_key_value_heads * self.head_dim, bias=config.attention_bias)
        for name in ("q_norm_h", "q_norm_w", "k_norm_h", "k_norm_w"):
            setattr(self, name, Qwen3RMSNorm(half, eps=config.rms_norm_eps))

    def project(self, hidden_states: Tensor, tables: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys of width 2D, values of width D, each `[B, heads, L, width]`."""
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        rotated = []
        for side in "qk":
            own = getattr(self, f"{side}_norm")(getattr(self, f"{side}_proj")(hidden_states).view(shape))
            row, column = getattr(self, f"{side}_proj_hw")(hidden_states).view(shape).chunk(2, dim=-1)
            row, column = getattr(self, f"{side}_norm_h")(row), getattr(self, f"{side}_norm_w")(column)
            rotated.append(rotate(torch.cat([own, row, column], dim=-1).transpose(1, 2), tables))
        return rotated[0], rotated[1], self.v_proj(hidden_states).view(shape).transpose(1, 2)

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None,
        past_key_values: Any = None,
        kernel: str = "eager",
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend with the attention function `kernel`, which is chosen with the mask, once per forward pass."""
        query, key, value = self.project(hidden_states, position_embeddings)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        on_cpu, one_each = query.device.type == "cpu", query.shape[2] == 1
        # The CPU's fused kernel needs equal widths; otherwise the complete score matrix is kept in memory.
        pad = kernel == "sdpa" and on_cpu and not one_each
        if kernel == "sdpa" and on_cpu and one_each and not self.training:
            attend: Any = _decode
        elif kernel == "flex_attention" and not _compiled(query.device, key.shape[2]):
            attend = _flex_uncompiled
        else:
            attend = ALL_ATTENTION_FUNCTIONS.get_interface(kernel, eager_attention_forward)
        output, weights = attend(
            self,
            query,
            key,
            nn.functional.pad(value, (0, key.shape[-1] - value.shape[-1])) if pad else value,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,  # D^-0.5, though queries are 2D wide
            **kwargs,
        )
        output = output[..., : self.head_dim].reshape(*hidden_states.shape[:-1], -1)
        return self.o_proj(output), weights


def _decode(
    module: NEOAttention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Attention of one new token per row without a copy of the cache.

    On a CPU with unequal widths, torch repeats keys and values for every query head and scales all keys again; in a
    batch, this takes longer than the matrix products of the layer.
    """
    batch, heads = query.shape[:2]
    grouped = query.view(batch, key.shape[1], -1, query.shape[-1]) * scaling
    scores = grouped @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    output = scores.softmax(-1) @ value
    return output.reshape(batch, 1, heads, -1), None


def attention_plan(
    implementation: str,
    inputs_embeds: Tensor,
    attention_mask: Tensor | None,
    past_key_values: Any,
    images: Tensor | None,
    sequences: Tensor | None,
) -> tuple[str, Any]:
    """The attention function of a forward pass and its mask, computed once for all layers.

    Args:
        implementation: the implementation that the user chose.
        inputs_embeds: `[B, L, width]`.
        attention_mask: `[B, past + L]`, 0 on padding; or a complete mask `[B, 1, L, past + L]`, boolean or additive; or
            a block mask, which selects flex attention.
        past_key_values: cache of earlier tokens, or None.
        images: image number of each token or -1, `[B, L]`; None if there are only text tokens.
        sequences: packed sequence of each token, `[B, L]`; None if rows are not packed.

    Returns:
        The name of the attention function, and its mask: dense for `eager` and `sdpa`, a block mask for
        `flex_attention`, None if the kernel's own causal mask is right.
    """
    if isinstance(attention_mask, BlockMask):
        return "flex_attention", attention_mask
    finished = attention_mask if attention_mask is not None and attention_mask.ndim == 4 else None
    kernel = implementation
    if kernel.startswith("flash") and (finished is not None or images is not None or sequences is not None):
        kernel = "sdpa"  # flash kernels silently ignore masks that are not causal
    if kernel == "flex_attention" and inputs_embeds.shape[1] == 1:
        kernel = "sdpa"  # in decoding, blocks save nothing
    if finished is not None:
        return kernel, _additive(finished, inputs_embeds.dtype) if kernel != "sdpa" else finished
    past = 0 if past_key_values is None else past_key_values.get_seq_length()
    if kernel == "flex_attention":
        return kernel, _block_mask(inputs_embeds, attention_mask, past, images, sequences)
    if images is not None and past:
        images = nn.functional.pad(images, (past, 0), value=-1)
    mask = create_causal_mask(
        config=SimpleNamespace(_attn_implementation=kernel),
        inputs_embeds=inputs_embeds,
        attention_mask=attention_mask,
        past_key_values=past_key_values,
        position_ids=None if sequences is None else _counters(sequences),
        block_sequence_ids=images,
    )
    return kernel, mask


def _block_mask(
    inputs_embeds: Tensor, attention_mask: Tensor | None, past: int, images: Tensor | None, sequences: Tensor | None
) -> Any:
    """The block mask of `flex_attention`, with one mask function for all kinds of batches, so that it compiles once."""
    batch, length = inputs_embeds.shape[:2]
    device, total = inputs_embeds.device, past + length
    # The tables are longer than the keys, because inductor's CPU kernel (torch 2.13) confuses the symbols of two equal
    # sizes and does not compile.
    after = FLEX_BLOCK - total % FLEX_BLOCK
    nothing = torch.full((batch, length), -1, device=device)
    image = nn.functional.pad(nothing if images is None else images, (past, after), value=-1)
    sequence = nn.functional.pad(torch.zeros_like(nothing) if sequences is None else sequences, (past, after))
    token = torch.ones(batch, total, dtype=torch.bool, device=device) if attention_mask is None else attention_mask
    token = nn.functional.pad(token.bool(), (0, after))
    start = torch.tensor(past, device=device)

    def sees(row: Tensor, _: Tensor, query: Tensor, key: Tensor) -> Tensor:
        at = query + start
        own_image = (image[row, at] == image[row, key]) & (image[row, key] >= 0)
        return ((key <= at) | own_image) & token[row, key] & (sequence[row, at] == sequence[row, key])

    return create_block_mask(sees, batch, None, length, total, device=device, _compile=_compiled(device, total))


def _compiled(device: Any, length: int) -> bool:
    return device.type != "cpu" or length >= COMPILED_FROM


def _flex_uncompiled(
    module: NEOAttention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Flex attention as in transformers, without compilation."""
    if isinstance(mask, BlockMask):
        options: Any = {"block_mask": mask}
    else:
        options = {"score_mod": lambda score, row, _, at, to: score + mask[row, 0, at, to]}
    output = flex_attention(query, key, value, scale=scaling, enable_gqa=True, **options)
    return output.transpose(1, 2), None


def _additive(mask: Tensor, dtype: Any) -> Tensor:
    """A boolean mask as an additive mask; other masks are not changed."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)


def _counters(sequences: Tensor) -> Tensor:
    """Token counters that restart with every packed sequence, by which transformers detects packing."""
    count = torch.arange(sequences.shape[-1], device=sequences.device).expand_as(sequences)
    first = sequences != nn.functional.pad(sequences[:, :-1], (1, 0), value=-1)
    return count - torch.where(first, count, 0).cummax(-1).values
