"""Tiny vision-language models from random weights, for laptops and tests, of the real classes with small sizes.

In: an architecture, its sizes and sample texts. Out: a checkpoint folder with model, tokenizer and processor that
`transformers` opens like any other checkpoint.

The tokenizer is byte-level BPE with Qwen's splitting rule, special tokens and chat template; its merges and phrases are
learned from the texts. It encodes any text, and the prompts of the run in few tokens, which makes runs on a CPU fast.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from jigsaw.models.families import family_named

TinyArchitecture = Literal[
    "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "internvl", "smolvlm", "gemma3", "llava_onevision", "neo"
]

ALIASES = {"neo": "neo_chat"}
"""Names of tiny models that differ from their `model_type`."""

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""The special tokens of Qwen2.5-VL that its chat template and processor write."""

CHAT_TEMPLATE = (Path(__file__).parent / "qwen_chat.jinja").read_text(encoding="utf-8")
"""Qwen2.5-VL's form of ChatML, with one vision block per medium."""

PHRASE_MERGES = 4096
"""Entries of the vocabulary that finds repeated phrases, more than the prompts of a run need."""


class TinySizes(BaseModel):
    """Sizes of a tiny model; every field is a key below `model.sizes` in a recipe.

    Attributes:
        hidden_size: width of the text stack; a multiple of `head_size`.
        num_layers: text layers.
        head_size: width of an attention head in both towers, a multiple of 4 for the rotary embedding; vLLM's CPU back
            end needs at least 32.
        mlp_ratio: width of the feed-forward layers, as a multiple of `hidden_size`.
        vision_hidden_size: width of the vision tower; a multiple of `head_size`.
        vision_layers: layers of the vision tower; for NEO, layers of the pre-Buffer.
        fullatt_block_indexes: layers of the vision tower, from 0, with attention over the complete image; the others
            attend within windows of 2x2 visual tokens. None for all layers.
        vocab_size: entries of the tokenizer, including special tokens.
        initializer_range: standard deviation of the random weights.
        tie_word_embeddings: whether the output head is the input embedding.
        seed: random seed of the weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden_size: int = Field(128, ge=32)
    num_layers: int = Field(3, ge=1)
    head_size: int = Field(32, ge=8, multiple_of=4)
    mlp_ratio: float = Field(3.0, gt=0)
    vision_hidden_size: int = Field(128, ge=32)
    vision_layers: int = Field(1, ge=1)
    fullatt_block_indexes: tuple[int, ...] | None = None
    vocab_size: int = Field(512, ge=300)
    initializer_range: float = Field(0.02, gt=0)
    tie_word_embeddings: bool = False
    seed: int = 0

    @model_validator(mode="after")
    def _whole_heads(self) -> TinySizes:
        for name in ("hidden_size", "vision_hidden_size"):
            if getattr(self, name) % self.head_size:
                raise ValueError(f"{name} {getattr(self, name)} is not a multiple of head_size {self.head_size}")
        if self.full_attention and not 0 <= min(self.full_attention) <= max(self.full_attention) < self.vision_layers:
            raise ValueError(
                f"fullatt_block_indexes {self.full_attention}: the vision tower has layers 0 to "
                f"{self.vision_layers - 1}"
            )
        return self

    def text_config(self, tokenizer: Any) -> dict[str, Any]:
        """The keys of a language model's configuration that all architectures have."""
        heads = self.hidden_size // self.head_size
        return {
            "vocab_size": len(tokenizer),
            "hidden_size": self.hidden_size,
            "intermediate_size": int(self.hidden_size * self.mlp_ratio),
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "head_dim": self.head_size,
            "initializer_range": self.initializer_range,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "tie_word_embeddings": self.tie_word_embeddings,
        }

    def vision_config(self) -> dict[str, Any]:
        """The keys of a vision tower's configuration that all towers of tiles or frames have."""
        return {
            "hidden_size": self.vision_hidden_size,
            "intermediate_size": int(self.vision_hidden_size * self.mlp_ratio),
            "num_hidden_layers": self.vision_layers,
            "num_attention_heads": self.vision_hidden_size // self.head_size,
        }

    @property
    def full_attention(self) -> list[int]:
        """The layers of the vision tower with attention over the whole image."""
        return list(range(self.vision_layers) if self.fullatt_block_indexes is None else self.fullatt_block_indexes)


def build_tokenizer(texts: Iterable[str], vocab_size: int, named: Mapping[str, str] | None = None) -> Any:
    """Train a small byte-level BPE tokenizer with Qwen's splitting rule and special tokens.

    Phrases that every prompt repeats become one token each, in addition to the learned words. Otherwise they would be
    half of the tokens of a tiny model's prompts, and half of the work of a step.

    Args:
        texts: the training texts; their order does not matter.
        vocab_size: total number of entries, including 256 bytes and the special tokens.
        named: further special tokens by the attribute that processors read, including `eos_token`.

    Returns:
        A `transformers` `Qwen2Tokenizer`, padding on the left.
    """
    from tokenizers import AddedToken, Regex, pre_tokenizers
    from transformers import Qwen2Tokenizer
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    texts, named = sorted(set(texts)), dict(named or {})
    special = [*SPECIAL_TOKENS, *named.values()]
    words = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated", invert=False)
    phrases = _phrases(texts, words, most=(vocab_size - 256 - len(special)) // 2)
    learned = json.loads(_learn(texts, words, vocab_size - len(special) - len(phrases)).to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],
        eos_token=named.pop("eos_token", "<|im_end|>"),
        bos_token=named.pop("bos_token", None),
        pad_token="<|endoftext|>",
        unk_token=None,
        extra_special_tokens=list(SPECIAL_TOKENS),
        model_specific_special_tokens=named,
        padding_side="left",
        model_max_length=32768,
    )
    tokenizer.add_tokens([AddedToken(phrase, normalized=False, special=False) for phrase in phrases])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _learn(texts: list[str], split: Any, vocab_size: int) -> Any:
    """A byte-level BPE `tokenizers.Tokenizer` with merges only within the parts that `split` produces."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    )
    return bpe


def _phrases(texts: list[str], words: Any, most: int) -> list[str]:
    """Phrases of several words without digits that merges across words produce, the most frequent first."""
    from tokenizers import pre_tokenizers

    bpe = _learn(texts, pre_tokenizers.Digits(individual_digits=True), PHRASE_MERGES)
    used = Counter(text[start:end] for text in texts for start, end in bpe.encode(text).offsets)
    several = [phrase for phrase in used if len(words.pre_tokenize_str(phrase)) > 1]
    return sorted(several, key=lambda phrase: (-used[phrase], phrase))[:most]


def tiny_model(architecture: str, sizes: TinySizes, texts: Iterable[str]) -> tuple[Any, Any]:
    """A model from random weights and its processor.

    Args:
        architecture: a value of `TinyArchitecture`.
        sizes: the sizes.
        texts: training texts of the tokenizer, the prompts and answers of the run.
    """
    import torch

    family = family_named(ALIASES.get(architecture, architecture))
    tokenizer = build_tokenizer(texts, sizes.vocab_size, family.tiny_tokens)
    with torch.random.fork_rng():
        torch.manual_seed(sizes.seed)
        model, processor = family.tiny(sizes, tokenizer)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, processor


def write_tiny(architecture: str, sizes: TinySizes, texts: Iterable[str], out: Path) -> int:
    """Write a random-weight checkpoint with its processor to `out`.

    Args:
        architecture: a value of `TinyArchitecture`.
        sizes: the sizes.
        texts: training texts of the tokenizer, the prompts and answers of the run.
        out: the folder, which is created.

    Returns:
        The number of parameters.
    """
    model, processor = tiny_model(architecture, sizes, texts)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    return int(sum(parameter.numel() for parameter in model.parameters()))


def build_tiny(architecture: TinyArchitecture, out: str | Path, *, texts: Iterable[str] = (), **sizes: Any) -> Path:
    """Write a random-weight checkpoint with its processor.

    Args:
        architecture: a value of `TinyArchitecture`.
        out: the folder, which is created.
        texts: training texts of the tokenizer, such as prompts and answers; without any, tokens are bytes.
        **sizes: fields of `TinySizes`.

    Returns:
        The folder.
    """
    folder = Path(out)
    write_tiny(architecture, TinySizes(**sizes), texts, folder)
    return folder
