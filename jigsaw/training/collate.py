"""Collates supervised batches: prompts with images and videos, completions, and labels.

In: rows with a prompt, media and the completion to learn. Out: model inputs with labels; in a conversation all turns of
the assistant have labels. TRL's collator only takes images and would silently drop the pixels of videos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from jigsaw.errors import JigsawError
from jigsaw.models.families.base import PER_TOKEN
from jigsaw.models.prompt_batch import check_media
from jigsaw.models.prompts import expand_media, processor_inputs, prompt_text, template_text

IGNORED = -100


@dataclass(frozen=True)
class PuzzleCollator:
    """Collates batches for `SFTTrainer`.

    Args:
        processor: the processor of the trained model.
    """

    processor: Any

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask`, `labels` (only on the assistant's turns), and the inputs of the media.

        Args:
            rows: rows with `prompt`, `completion` and media.

        Raises:
            JigsawError: a medium was not converted to tokens and pixels, or a text contains tokens of the template.
        """
        rows = [expand_media(self.processor, row) for row in rows]
        batch = dict(processor_inputs(self.processor, rows))
        check_media(self.processor, rows, batch["input_ids"], batch)
        learned = [torch.tensor(self._completion(row)) for row in rows]
        blank = self.processor.tokenizer.pad_token_id
        ids = torch.nn.utils.rnn.pad_sequence(learned, batch_first=True, padding_value=blank)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(tokens) for tokens in learned], batch_first=True)
        labels = ids.masked_fill(mask == 0, IGNORED)
        batch["labels"] = torch.cat([self._earlier_answers(rows, batch["input_ids"]), labels], dim=1)
        batch["input_ids"] = torch.cat([batch["input_ids"], ids], dim=1)
        batch["attention_mask"] = torch.cat([batch["attention_mask"], mask], dim=1)
        return batch | {name: pad(batch[name], (0, ids.shape[1])) for name in PER_TOKEN if name in batch}

    def _earlier_answers(self, rows: Sequence[Mapping[str, Any]], ids: Tensor) -> Tensor:
        """Labels of prompts: the earlier turns of the assistant, including their end tokens.

        Each medium is now many tokens, so turns are located by the tokens that the template puts around them.
        """
        labels = torch.full_like(ids, IGNORED)
        for row, tokens, label in zip(rows, ids, labels, strict=True):
            turns = [number for number, turn in enumerate(row["prompt"]) if turn["role"] == "assistant"]
            if not turns:
                continue
            opening, closing = self._around_an_answer(row)
            places = torch.nonzero((tokens.unfold(0, len(opening), 1) == opening).all(-1))[:-1, 0] + len(opening)
            if len(places) != len(turns):
                raise JigsawError(
                    f"row {row.get('id')}: the conversation has {len(turns)} answers, its tokens {len(places)}; "
                    "check whether a text contains tokens of the chat template"
                )
            for begin in places.tolist():
                end = begin + int(torch.nonzero(tokens[begin:] == closing[0])[0, 0]) + len(closing)
                label[begin:end] = tokens[begin:end]
        return labels

    def _around_an_answer(self, row: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The tokens with which the template opens and closes a turn of the assistant."""
        opened, answer = prompt_text(self.processor, row), "answer"
        turn = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
        unopened = template_text(self.processor, row["prompt"])
        complete = template_text(self.processor, [*row["prompt"], turn])
        texts = opened[len(unopened) :], complete[len(opened) :].partition(answer)[2]
        first, second = (self.processor.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)
        return torch.tensor(first), torch.tensor(second)

    def _completion(self, row: Mapping[str, Any]) -> list[int]:
        """Tokens of the completion as the chat template writes the turn, including its end."""
        prompt = prompt_text(self.processor, row)
        complete = template_text(self.processor, [*row["prompt"], *row["completion"]])
        if not complete.startswith(prompt):
            raise JigsawError(
                f"row {row.get('id')}: the chat template changes the prompt when an answer follows; "
                "supervised training needs a template that only appends the answer"
            )
        tokens: list[int] = self.processor.tokenizer(complete[len(prompt) :], add_special_tokens=False)["input_ids"]
        return tokens
