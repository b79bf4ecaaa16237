"""NEO: one decoder for pixels and text, with the module names of the official checkpoints.

    vision_model.embeddings       patches to tokens: two convolutions, no attention
    language_model.model          embeddings, pre-Buffer and language model as one stack of equal layers, final norm
    language_model.lm_head

In: token ids with `<IMG_CONTEXT>` for image tokens, flattened 16-pixel patches and their grids. Out: logits. Module
names are those of the checkpoint, so that loading, saving and weight transfer to an engine need no renaming. The model
has no state between calls: the cache has everything that decoding needs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer, Qwen3RMSNorm
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from jigsaw.models.neo import indices
from jigsaw.models.neo.attention import NEOAttention, attention_plan, rotary_tables
from jigsaw.models.neo.checkpoint import refuse_other_primitives
from jigsaw.models.neo.configuration import NEOChatConfig, NEOTextConfig
from jigsaw.models.neo.generation import NEOGenerationMixin
from jigsaw.models.neo.patches import NEOVisionModel


class NEODecoderLayer(Qwen3DecoderLayer):  # type: ignore[misc]  # transformers comes without types
    """A Qwen3 layer with NEO's attention; pre-Buffer layers are the same."""

    def __init__(self, config: NEOTextConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        self.self_attn = NEOAttention(config, layer_idx)


class NEOPreTrainedModel(PreTrainedModel):  # type: ignore[misc]  # transformers comes without types
    """The settings that transformers reads from a model class."""

    config_class = NEOChatConfig
    base_model_prefix = ""
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["NEODecoderLayer", "NEOVisionEmbeddings"]  # noqa: RUF012  # of the base class
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012  # of the base class
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {  # noqa: RUF012  # of the base class
        "hidden_states": NEODecoderLayer,
        "attentions": NEOAttention,
    }


class NEOTextModel(NEOPreTrainedModel):
    """The decoder stack: embeddings, layers, final norm."""

    config_class = NEOTextConfig

    def __init__(self, config: NEOTextConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList([NEODecoderLayer(config, index) for index in range(config.num_hidden_layers)])
        self.norm = Qwen3RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults  # type: ignore[untyped-decorator]
    @capture_outputs  # type: ignore[untyped-decorator]
    def forward(
        self,
        inputs_embeds: Tensor,
        position_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        images: Tensor | None = None,
        sequences: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Run the stack.

        Args:
            inputs_embeds: `[B, L, hidden_size]`.
            position_ids: `[3, B, L]`.
            attention_mask, past_key_values, images, sequences: as in `attention_plan`.
            use_cache: whether to cache keys and values for later tokens.
            **kwargs: `output_hidden_states`, `output_attentions`.
        """
        kernel, mask = attention_plan(
            self.config._attn_implementation, inputs_embeds, attention_mask, past_key_values, images, sequences
        )
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        tables = rotary_tables(position_ids, self.config, inputs_embeds.dtype)
        hidden = inputs_embeds
        for layer in self.layers:
            hidden = layer(
                hidden,
                attention_mask=mask,
                position_embeddings=tables,
                past_key_values=past_key_values,
                use_cache=use_cache,
                kernel=kernel,
                **kwargs,
            )
        return BaseModelOutputWithPast(
            last_hidden_state=self.norm(hidden), past_key_values=past_key_values if use_cache else None
        )


class NEOLanguageModel(nn.Module):
    """The stack and its head, with the official names."""

    def __init__(self, config: NEOTextConfig) -> None:
        super().__init__()
        self.model = NEOTextModel._from_config(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)


class NEOChatModel(NEOPreTrainedModel, NEOGenerationMixin):
    """NEO with its head, for `AutoModelForImageTextToText`, `generate` and TRL's trainers."""

    _tied_weights_keys = {  # noqa: RUF012  # of the base class
        "language_model.lm_head.weight": "language_model.model.embed_tokens.weight"
    }
    accepts_loss_kwargs = True

    def __init__(self, config: NEOChatConfig) -> None:
        super().__init__(config)
        self.vision_model = NEOVisionModel(config.vision_config)
        self.language_model = NEOLanguageModel(config.llm_config)
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in `transformers`.

        Raises:
            ValueError: the checkpoint has the newer NEO-unify architecture.
        """
        refuse_other_primitives(pretrained_model_name_or_path, kwargs)
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @property
    def base_model(self) -> NEOBackbone:
        """The model without its head, with the same arguments."""
        return NEOBackbone(self)

    def get_input_embeddings(self) -> nn.Module:
        """The token embeddings."""
        return self.language_model.model.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Set the token embeddings."""
        self.language_model.model.embed_tokens = value

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.language_model.lm_head

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Set the head."""
        self.language_model.lm_head = value  # type: ignore[assignment]  # a linear layer

    def get_image_features(self, pixel_values: Tensor, image_grid_thw: Tensor) -> Tensor:
        """Tokens of images, `[tokens, hidden_size]`; see `NEOVisionEmbeddings`."""
        return self.vision_model.embeddings(pixel_values, image_grid_thw)

    def get_rope_index(
        self,
        input_ids: Tensor,
        image_grid_thw: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor]:
        """The (T, H, W) indices of prompts.

        Args:
            input_ids: `[B, L]`.
            image_grid_thw: `[images, 3]`, images in prompt order.
            attention_mask: `[B, L]`, 0 on padding.

        Returns:
            Indices `[3, B, L]`, and the T of the next token of each row, `[B]`.
        """
        position_ids = indices.position_indices(
            self._image_numbers(input_ids, image_grid_thw),
            image_grid_thw,
            merge_size=self.config.vision_config.merge_size,
            attention_mask=attention_mask,
            variant=self.config.llm_config.rope_variant,
        )
        return position_ids, position_ids[0].amax(-1) + 1

    def images_per_row(self, input_ids: Tensor, image_grid_thw: Tensor) -> Tensor:
        """The number of images in each row, `[B]`."""
        config = self.config
        return indices.images_per_row(
            input_ids,
            image_grid_thw,
            image_token_id=config.image_token_id,
            merge_size=config.vision_config.merge_size,
        )

    def _image_numbers(self, input_ids: Tensor, image_grid_thw: Tensor | None) -> Tensor:
        config = self.config
        return indices.image_numbers(
            input_ids,
            image_grid_thw,
            image_token_id=config.image_token_id,
            merge_size=config.vision_config.merge_size,
        )

    def encode(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        use_cache: bool | None = None,
        mm_token_type_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Run the model without its head; arguments as in `forward`."""
        del mm_token_type_ids  # not needed, since token ids have the same information
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        if inputs_embeds is not None:
            if pixel_values is not None:
                raise ValueError("pixel_values need input_ids, which have the places of the images")
            input_ids = torch.full(inputs_embeds.shape[:2], -1, device=inputs_embeds.device)
        else:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        if pixel_values is None:
            image_grid_thw = None
        elif image_grid_thw is None:
            raise ValueError("pixel_values need image_grid_thw")
        numbers = self._image_numbers(input_ids, image_grid_thw)  # type: ignore[arg-type]  # one of two is given
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        if pixel_values is not None and image_grid_thw is not None:
            features = self.get_image_features(pixel_values, image_grid_thw)
            inputs_embeds = inputs_embeds.masked_scatter((numbers >= 0)[..., None], features.to(inputs_embeds))
        elif not past:
            inputs_embeds = self._with_blank_image(inputs_embeds)
        position_ids, sequences = self._positions(
            numbers, image_grid_thw, attention_mask, position_ids, past_key_values
        )
        mixed = self.config.llm_config.image_attention == "mixed"
        output = self.language_model.model(
            inputs_embeds=inputs_embeds,
            position_ids=position_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            images=numbers if image_grid_thw is not None and mixed else None,
            sequences=sequences,
            use_cache=use_cache,
            **kwargs,
        )
        if output.past_key_values is not None:
            output.past_key_values.next_time = position_ids[0].amax(-1) + 1
        return output

    def _with_blank_image(self, inputs_embeds: Tensor) -> Tensor:
        """Embeddings of rows without images, after a blank image was embedded if there are other processes.

        Processes whose rows have images gather the weights of the patch embedding, and this one must take part.
        """
        if not torch.distributed.is_available() or not torch.distributed.is_initialized():
            return inputs_embeds
        vision = self.config.vision_config
        side = vision.merge_size
        blank = inputs_embeds.new_zeros(side**2, vision.num_channels * vision.patch_size**2)
        grid = torch.tensor([[1, side, side]], device=inputs_embeds.device)
        return inputs_embeds + 0.0 * self.get_image_features(blank, grid).sum()

    def _positions(
        self,
        numbers: Tensor,
        image_grid_thw: Tensor | None,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        past_key_values: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Indices `[3, B, L]`, and the packed sequence of each token, or None."""
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        if position_ids is not None and position_ids.ndim == 2 and past:
            raise ValueError("with a cache, position_ids are (T, H, W) indices of shape [3, B, L], or left out")
        sequences = None
        if position_ids is not None and attention_mask is None and not past:
            sequences = indices.packed_sequences(position_ids.expand(*position_ids.shape[:-2], *numbers.shape))
        if position_ids is not None and position_ids.ndim == 3:
            return position_ids.expand(3, *numbers.shape), sequences
        mask = attention_mask if attention_mask is not None and attention_mask.ndim == 2 else None
        position_ids = indices.position_indices(
            numbers,
            image_grid_thw,
            merge_size=self.config.vision_config.merge_size,
            attention_mask=None if mask is None else mask[:, -numbers.shape[1] :],
            sequences=sequences,
            variant=self.config.llm_config.rope_variant,
        )
        if past:
            begin = getattr(past_key_values, "next_time", None)
            if begin is None or len(begin) != len(numbers):
                raise ValueError("the positions of this cache are unknown: pass position_ids of shape [3, B, L]")
            offset = begin.to(position_ids.device)[:, None]
            position_ids = torch.stack([position_ids[0] + offset, position_ids[1], position_ids[2]])
        return position_ids, sequences

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        mm_token_type_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits, and the loss if there are labels.

        Args:
            input_ids: `[B, L]`, with `config.image_token_id` once per image token.
            attention_mask: `[B, past + L]`, 0 on padding, on either side; or a complete mask `[B, 1, L, past + L]`,
                boolean or additive, in which image tokens attend to their image.
            position_ids: (T, H, W) indices `[3, B, L]`; or token counters `[B, L]` that restart at 0 with each packed
                sequence (without an attention mask). None to compute them from the other arguments.
            past_key_values: a cache; the next T of its rows is known if this model filled it.
            inputs_embeds: embeddings instead of `input_ids`, for text only.
            labels: `[B, L]`, -100 for tokens without loss.
            pixel_values: `[patches, channels * patch_size**2]`, all images of the batch in prompt order.
            image_grid_thw: `[images, 3]`, t = 1, height and width in patches.
            use_cache: whether to return keys and values; None for the configuration's value.
            logits_to_keep: number of tokens at the end, or indices of tokens; 0 for all.
            mm_token_type_ids: ignored.
            **kwargs: `output_hidden_states`, `num_items_in_batch` and the like.
        """
        loss_kwargs = {key: kwargs.pop(key) for key in ("num_items_in_batch", "shift_labels") if key in kwargs}
        output = self.encode(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            pixel_values=pixel_values,
            image_grid_thw=image_grid_thw,
            use_cache=use_cache,
            mm_token_type_ids=mm_token_type_ids,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.language_model.lm_head(output.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.llm_config.vocab_size, **loss_kwargs
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )


class NEOBackbone(nn.Module):
    """A view of a model without its head, which has no parameters, since the official names have no such module.

    Args:
        model: the model whose `encode` is called.
    """

    def __init__(self, model: NEOChatModel) -> None:
        super().__init__()
        self.__dict__["_model"] = model  # not a child module, which would be saved and moved twice

    def forward(self, *args: Any, **kwargs: Any) -> BaseModelOutputWithPast:
        """Last hidden state and cache; arguments as in `NEOChatModel.forward`."""
        return self.__dict__["_model"].encode(*args, **kwargs)
