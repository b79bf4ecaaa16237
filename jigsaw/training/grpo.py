"""GRPO on puzzles: TRL's GRPOTrainer, told what a puzzle is.

In: a puzzle set, rewards and a configuration. Out: the model, trained in place. What is added to TRL: metrics that are
watched beside the rewards, and a check that every medium of a prompt reaches the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PrinterCallback
from trl import GRPOTrainer

from jigsaw.errors import JigsawError
from rewards import Composition


class PuzzleTrainer(GRPOTrainer):  # type: ignore[misc]  # TRL comes without types
    """TRL's GRPO trainer for puzzle sets.

    Args:
        composition: the rewards that are optimised (their weights stand in the configuration) and the watched metrics.
        **kwargs: of `trl.GRPOTrainer`, less `reward_funcs`.
    """

    def __init__(self, *, composition: Composition, **kwargs: Any) -> None:
        self._composition = composition
        functions, _ = composition.trl_functions()
        super().__init__(reward_funcs=functions, **kwargs)
        self.remove_callback(PrinterCallback)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        columns = {key: [row[key] for row in inputs] for key in inputs[0] if key not in ("prompt", "images", "videos")}
        for name, values in self._composition.measure(completions, columns).items():
            known = [value for value in values if value is not None]
            if known:
                self._log_metric(name, sum(known) / len(known))
        return super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        prompt_ids, images, fields = super()._tokenize_prompts(prompts)
        _check_media(self.processing_class, prompt_ids, images, fields)
        return prompt_ids, images, fields


def _check_media(processor: Any, prompt_ids: Sequence[Sequence[int]], images: Any, fields: Any) -> None:
    """Every image has its tokens in the prompt and its pixels in the model's input, or training stops."""
    grid = fields.get("image_grid_thw")
    given = sum(len(row or ()) for row in images or ())
    arrived = 0 if grid is None else len(grid)
    if given != arrived:
        raise JigsawError(f"{given} images were given and {arrived} reached the model: the processor dropped some")
    token = getattr(processor, "image_token_id", None)
    if grid is None or token is None:
        return
    expected = int(grid.prod(-1).sum()) // processor.image_processor.merge_size**2
    found = sum(sum(1 for item in ids if item == token) for ids in prompt_ids)
    if found != expected:
        raise JigsawError(f"the prompts hold {found} image tokens where the images need {expected}: a prompt was cut")


def train_grpo(
    model: Any, processor: Any, puzzles: Any, composition: Composition, config: Any, callbacks: Sequence[Any]
) -> None:
    """Train `model` in place with GRPO.

    Args:
        model: a vision-language model.
        processor: of the same checkpoint.
        puzzles: a puzzle set, or a mixture of several.
        composition: what is optimised and what is watched.
        config: TRL's GRPOConfig.
        callbacks: `transformers` trainer callbacks.
    """
    trainer = PuzzleTrainer(
        model=model,
        args=config,
        train_dataset=puzzles,
        processing_class=processor,
        composition=composition,
        callbacks=list(callbacks),
    )
    trainer.train()
