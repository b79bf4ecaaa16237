"""A prompt is paid for once: the completions of a group share its pixels, its prefill and its place in the loss pass.

In: the distinct prompts of a batch. Out: sampled completions, and their log-probabilities, as if each completion had
been run behind a copy of its prompt. The loss pass packs one sequence per prompt,

    [ prompt | completion 1 | completion 2 | ... | completion G ]

with a mask under which a completion sees its prompt and itself, causally, and no other completion; position numbers of
every completion go on from the prompt's. For sampling the prompt is prefilled once and its cache repeated.

Left out: a block mask for very long prompts (the mask here is dense), and prompts with videos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from jigsaw.errors import JigsawError
from jigsaw.evaluation.solve import with_media

Tensor = Any  # torch comes without types here
PER_TOKEN = ("mm_token_type_ids", "token_type_ids")


@dataclass(frozen=True)
class PromptBatch:
    """N distinct prompts, tokenized, padded on the left to length P.

    Attributes:
        input_ids, attention_mask: `[N, P]`.
        positions: position numbers, `[axes, N, P]` (three axes for M-RoPE).
        media: pixel tensors and what goes with them, as the model takes them.
        token_fields: fields with one value per token, `[N, P]`.
    """

    input_ids: Tensor
    attention_mask: Tensor
    positions: Tensor
    media: Mapping[str, Tensor]
    token_fields: Mapping[str, Tensor]

    @classmethod
    def encode(cls, model: Any, processor: Any, rows: Sequence[Mapping[str, Any]], device: Any) -> PromptBatch:
        """Tokenize rows and preprocess their media, once each.

        Raises:
            JigsawError: a medium did not become tokens and pixels.
        """
        encoded = processor.apply_chat_template(
            [with_media(row) for row in rows],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        ).to(device)
        input_ids, attention_mask = encoded.pop("input_ids"), encoded.pop("attention_mask")
        token_fields = {name: encoded.pop(name) for name in PER_TOKEN if name in encoded}
        media = dict(encoded)
        _check_media(processor, rows, input_ids, media)
        positions = model.model.get_rope_index(
            input_ids, attention_mask=attention_mask, image_grid_thw=media.get("image_grid_thw"), **token_fields
        )[0]
        return cls(input_ids, attention_mask, positions, media, token_fields)

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    def token_lists(self) -> list[list[int]]:
        """The prompts' tokens without padding."""
        return [ids[mask.bool()].tolist() for ids, mask in zip(self.input_ids, self.attention_mask, strict=True)]

    @property
    def next_position(self) -> Tensor:
        """The position number of the first completion token, `[N]`."""
        return self.positions.amax(dim=(0, 2)) + 1


def sample(
    model: Any,
    prompts: PromptBatch,
    generations: int,
    *,
    logits_processors: Any,
    max_new_tokens: int,
    eos_token_ids: Sequence[int],
    seeds: Sequence[int],
) -> list[list[int]]:
    """Sample completions, prefilling every prompt once.

    Args:
        model: a causal vision-language model of `transformers`.
        prompts: N prompts.
        generations: completions of each, G.
        logits_processors: a `LogitsProcessorList`: suppressed tokens, temperature, truncation.
        max_new_tokens: limit of a completion.
        eos_token_ids: tokens that end one.
        seeds: one per prompt. A completion's randomness depends on its prompt's seed and its own number alone, so that
            the same prompt gets the same completions in any batch and on any rank.

    Returns:
        N x G token lists, the completions of a prompt together; each ends with its end token or at the limit.
    """
    with torch.no_grad():
        output = model(
            input_ids=prompts.input_ids,
            attention_mask=prompts.attention_mask,
            position_ids=prompts.positions,
            **prompts.media,
            **prompts.token_fields,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        cache.batch_repeat_interleave(generations)
        logits = output.logits[:, -1].repeat_interleave(generations, dim=0)
        mask = prompts.attention_mask.repeat_interleave(generations, dim=0)
        position = prompts.next_position.repeat_interleave(generations)
        axes, ends = prompts.positions.shape[0], torch.tensor(list(eos_token_ids), device=logits.device)
        done = torch.zeros(len(position), dtype=torch.bool, device=logits.device)
        tokens = prompts.input_ids.repeat_interleave(generations, dim=0)
        start = tokens.shape[1]
        draws = [
            torch.Generator(logits.device).manual_seed(seed * 1_000_003 + number)
            for seed in seeds
            for number in range(generations)
        ]
        for step in range(max_new_tokens):
            scores = logits_processors(tokens, logits.float())
            # The largest probability over exponential noise is a draw from the distribution (Gumbel's trick).
            noise = torch.stack(
                [torch.empty_like(row).exponential_(generator=draw) for row, draw in zip(scores, draws, strict=True)]
            )
            chosen = (scores.softmax(-1) / noise).argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, chosen], dim=1)
            done = done | torch.isin(chosen[:, 0], ends)
            if done.all() or step + 1 == max_new_tokens:
                break
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            logits = model(
                input_ids=chosen,
                attention_mask=mask,
                position_ids=(position + step)[None, :, None].expand(axes, -1, -1),
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]
    return [_until_end(row, set(eos_token_ids)) for row in tokens[:, start:].tolist()]


def log_probabilities(
    model: Any,
    prompts: PromptBatch,
    prompt_of_row: Tensor,
    completion_ids: Tensor,
    completion_mask: Tensor,
    *,
    temperature: float = 1.0,
    forbidden_tokens: Sequence[int] = (),
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies of completion tokens, one packed sequence per prompt.

    Args:
        model: a causal vision-language model, possibly wrapped.
        prompts: the prompts of the batch.
        prompt_of_row: which prompt a completion belongs to, `[B]`.
        completion_ids: `[B, C]`, padded on the right.
        completion_mask: `[B, C]`, 1 on tokens, 0 on padding.
        temperature: that the logits are divided by.
        forbidden_tokens: ids that sampling leaves out, and that the distribution here has none of either.

    Returns:
        Two tensors `[B, C]`: log-probabilities with gradients, entropies in nats without. On padding they are finite
        and mean nothing.
    """
    used, group, slot, slots = _slots(prompt_of_row)
    batch = _select(prompts, used)
    count, width = len(used), completion_ids.shape[1]
    ids = batch.input_ids.new_zeros(count, slots, width)
    visible = batch.attention_mask.new_zeros(count, slots, width)
    ids[group, slot], visible[group, slot] = completion_ids, completion_mask.to(visible.dtype)

    positions = batch.next_position[:, None] + torch.arange(width, device=ids.device)
    positions = positions[None, :, None, :].expand(batch.positions.shape[0], -1, slots, -1).flatten(2)
    start = batch.input_ids.shape[1]
    kept = torch.arange(start - 1, start + slots * width, device=ids.device)
    output = model(
        input_ids=torch.cat([batch.input_ids, ids.flatten(1)], dim=1),
        attention_mask=packed_mask(batch.attention_mask, visible, _dtype(model)),
        position_ids=torch.cat([batch.positions, positions], dim=2),
        **batch.media,
        **{
            name: torch.cat([field, field.new_zeros(count, slots * width)], dim=1)
            for name, field in batch.token_fields.items()
        },
        use_cache=False,
        logits_to_keep=kept,
    )
    logits = output.logits.float() / temperature  # [N, 1 + slots * width, V]
    if forbidden_tokens:
        logits[..., list(forbidden_tokens)] = torch.finfo(logits.dtype).min / 2
    scores = logits.log_softmax(-1)
    # The token at (slot, 0) is predicted at the prompt's end, (slot, t) at (slot, t - 1).
    where = torch.arange(slots * width, device=ids.device).view(slots, width)
    where[:, 0] = 0
    where = where[None].expand(count, -1, -1).flatten(1)
    predicting = scores[torch.arange(count, device=ids.device)[:, None], where]  # [N, slots * width, V]
    logps = predicting.gather(-1, ids.flatten(1)[..., None])[..., 0].view(count, slots, width)
    with torch.no_grad():
        entropies = -(predicting.exp() * predicting).sum(-1).view(count, slots, width)
    return logps[group, slot], entropies[group, slot]


def packed_mask(prompt_mask: Tensor, completion_mask: Tensor, dtype: Any) -> Tensor:
    """The additive attention mask of packed sequences.

    Args:
        prompt_mask: `[N, P]`, 1 on tokens.
        completion_mask: `[N, G, C]`, 1 on tokens.
        dtype: of the result.

    Returns:
        `[N, 1, P + G*C, P + G*C]`: 0 where a query sees a key, the least number of `dtype` elsewhere. A query always
        sees itself, so that rows of padding stay finite.
    """
    device = prompt_mask.device
    count, slots, width = completion_mask.shape
    length = prompt_mask.shape[1]
    # Which stretch a token is in: the prompt is 0, completions count from 1.
    stretch = torch.cat(
        [
            torch.zeros(length, dtype=torch.long, device=device),
            torch.arange(1, slots + 1, device=device).repeat_interleave(width),
        ]
    )
    order = torch.arange(length + slots * width, device=device)
    sees = (stretch[:, None] == stretch[None, :]) | (stretch[None, :] == 0)
    sees = sees & (order[None, :] <= order[:, None])
    token = torch.cat([prompt_mask, completion_mask.reshape(count, -1)], dim=1).bool()
    sees = (sees[None] & token[:, None, :]) | torch.eye(len(order), dtype=torch.bool, device=device)
    mask = torch.zeros(sees.shape, dtype=dtype, device=device)
    return mask.masked_fill(~sees, torch.finfo(dtype).min)[:, None]


def _slots(prompt_of_row: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """Prompts in use, and for every row its prompt's number among them and its own number within the prompt."""
    used, group = torch.unique(prompt_of_row, return_inverse=True)
    taken: dict[int, int] = {}
    slot = []
    for number in group.tolist():
        slot.append(taken.get(number, 0))
        taken[number] = slot[-1] + 1
    return used, group, torch.tensor(slot, device=group.device), max(taken.values())


def _select(prompts: PromptBatch, used: Tensor) -> PromptBatch:
    """The prompts of the given ascending numbers, with their share of the pixels."""
    if len(used) == len(prompts):
        return prompts
    media = dict(prompts.media)
    if "image_grid_thw" in media:
        grid = media["image_grid_thw"]
        images = _images_per_prompt(prompts)
        owner = torch.repeat_interleave(torch.arange(len(prompts), device=grid.device), images)
        mine = torch.isin(owner, used)
        patches = torch.repeat_interleave(mine, grid.prod(-1))
        media["image_grid_thw"], media["pixel_values"] = grid[mine], media["pixel_values"][patches]
    return PromptBatch(
        prompts.input_ids[used],
        prompts.attention_mask[used],
        prompts.positions[:, used],
        media,
        {name: field[used] for name, field in prompts.token_fields.items()},
    )


def _images_per_prompt(prompts: PromptBatch) -> Tensor:
    """How many images each prompt has: runs of image tokens, which never touch (start and end tokens part them)."""
    kinds = prompts.token_fields["mm_token_type_ids"] == 1
    before = torch.cat([torch.zeros_like(kinds[:, :1]), kinds[:, :-1]], dim=1)
    return (kinds & ~before).sum(1)


def _check_media(
    processor: Any, rows: Sequence[Mapping[str, Any]], input_ids: Tensor, media: Mapping[str, Tensor]
) -> None:
    """Every image has its pixels in the model's input and its tokens in the prompt, or training stops."""
    given = sum(len(row.get("images") or ()) for row in rows)
    grid = media.get("image_grid_thw")
    arrived = 0 if grid is None else len(grid)
    if given != arrived:
        raise JigsawError(f"{given} images were given and {arrived} reached the model: the processor dropped some")
    if grid is None:
        return
    expected = int(grid.prod(-1).sum()) // processor.image_processor.merge_size**2
    found = int((input_ids == processor.image_token_id).sum())
    if found != expected:
        raise JigsawError(f"the prompts hold {found} image tokens where the images need {expected}: a prompt was cut")


def _until_end(tokens: list[int], ends: set[int]) -> list[int]:
    for position, token in enumerate(tokens):
        if token in ends:
            return tokens[: position + 1]
    return tokens


def _dtype(model: Any) -> Any:
    return next(model.parameters()).dtype
