"""Supervised batches of puzzles: prompts with images and videos, and the tokens that are learned behind them.

In: rows with a prompt, media and the completion to learn. Out: model inputs with labels. TRL's own collator takes
images alone and would drop a video's pixels in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import pad

from jigsaw.evaluation.prompts import processor_inputs, prompt_text
from jigsaw.training.prompts import PER_TOKEN, check_media

Tensor = Any  # torch comes without types here
IGNORED = -100


@dataclass(frozen=True)
class PuzzleCollator:
    """Makes batches for `SFTTrainer`.

    Args:
        processor: of the model that is trained.
    """

    processor: Any

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask`, `labels` (of the completions alone), and what carries the media.

        Args:
            rows: with `prompt`, `completion` and media.

        Raises:
            JigsawError: a medium did not become tokens and pixels.
        """
        batch = dict(processor_inputs(self.processor, rows))
        check_media(self.processor, rows, batch["input_ids"], batch)
        learned = [torch.tensor(self._completion(row)) for row in rows]
        blank = self.processor.tokenizer.pad_token_id
        ids = torch.nn.utils.rnn.pad_sequence(learned, batch_first=True, padding_value=blank)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(tokens) for tokens in learned], batch_first=True)
        labels = ids.masked_fill(mask == 0, IGNORED)
        batch["labels"] = torch.cat([torch.full_like(batch["input_ids"], IGNORED), labels], dim=1)
        batch["input_ids"] = torch.cat([batch["input_ids"], ids], dim=1)
        batch["attention_mask"] = torch.cat([batch["attention_mask"], mask], dim=1)
        return batch | {name: pad(batch[name], (0, ids.shape[1])) for name in PER_TOKEN if name in batch}

    def _completion(self, row: Mapping[str, Any]) -> list[int]:
        """Tokens of the completion as the chat template writes the turn, its end included."""
        before = prompt_text(self.processor, row)
        whole = self.processor.apply_chat_template([*row["prompt"], *row["completion"]], tokenize=False)
        tokens: list[int] = self.processor.tokenizer(whole[len(before) :], add_special_tokens=False)["input_ids"]
        return tokens
