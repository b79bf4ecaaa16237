"""The final evaluation of a run: its models on its held-out puzzles.

In: a run folder with trained models, and the held-out puzzles. Out: `predictions/`, and `evaluation.json` with the
scores of each model and the paired gain of GRPO, for each held-out set. What was answered before an interruption is not
asked again.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jigsaw.config.schema import Recipe
from jigsaw.console import StepProgress
from jigsaw.run_folder import RunFolder
from jigsaw.stop_request import StopRequest
from jigsaw.training.sets import HeldOut

if TYPE_CHECKING:
    from jigsaw.engines.vllm_requests import VllmSettings
    from jigsaw.evaluation.summary import Scored
    from jigsaw.rewards import Composition

MODELS = {"heldout": "model", "warmup": "warmup"}
"""Part of `evaluation.json` -> the model that it is about."""


def evaluate_run(
    recipe: Recipe,
    folder: RunFolder,
    heldout: HeldOut,
    composition: Composition,
    stop: StopRequest,
    progress: StepProgress,
) -> None:
    """Evaluate `model/`, and `warmup/` if there is one.

    Args:
        recipe: of the run.
        folder: of the run.
        heldout: all held-out puzzles.
        composition: the recipe's rewards and metrics.
        stop: ends the evaluation after a batch.
        progress: moves with every batch.

    Raises:
        StoppedError: it was asked to stop; the answers so far are kept.
    """
    from jigsaw.evaluation.held_out_sets import figures_by_set
    from jigsaw.evaluation.summary import score
    from jigsaw.models.load import load_processor
    from jigsaw.models.prompts import completion_tokens

    composition.tokenize = completion_tokens(load_processor(str(folder.model("model"))))
    scored: dict[str, list[Scored]] = {}
    solved: dict[str, list[dict[str, Any]]] = {}
    models = {name: model for name, model in MODELS.items() if folder.model(model).is_dir()}
    with progress:
        progress.start(len(models) * len(heldout), detail=" and ".join(f"{model}/" for model in models.values()))
        for name, model in models.items():
            solved[name] = _answers(recipe, folder, model, heldout, stop, progress)
            scored[name] = score(solved[name], composition)
            for own in heldout.names:
                lines = "".join(json.dumps(asdict(scored[name][row])) + "\n" for row in heldout.rows_of(own))
                folder.write_text_once(folder.predictions(model, own), lines)
    figures = figures_by_set(heldout, solved, scored, composition)
    folder.write_text_once(folder.evaluation, json.dumps(figures, indent=2))


def _answers(
    recipe: Recipe, folder: RunFolder, model: str, heldout: HeldOut, stop: StopRequest, progress: StepProgress
) -> list[dict[str, Any]]:
    """The answer of a model to each held-out puzzle; what these weights have answered is not asked again."""
    from jigsaw.evaluation.completions import Completions, file_stamp
    from jigsaw.evaluation.generation import Generation, open_engine
    from jigsaw.evaluation.solve import complete_left

    checkpoint = folder.model(model)
    generation = Generation(
        engine=recipe.rollout.engine,
        dtype=recipe.model.dtype,
        batch_size=recipe.evaluation.batch_size,
        max_new_tokens=recipe.completion_limit,
    )
    settings = {"model": model, "model_stamp": file_stamp(checkpoint), **generation.settings()}
    place = folder.answers / f"{model}-{settings['model_stamp']}"
    place.mkdir(parents=True, exist_ok=True)

    def on_batch(count: int) -> None:
        progress.advance(count)
        stop.check("in its evaluation")

    with Completions(place, settings) as kept, stop.heeded("after this batch of held-out puzzles"):
        answers = complete_left(
            lambda: open_engine(str(checkpoint), generation, _vllm_settings(recipe)),
            heldout.ids,
            heldout.__getitem__,
            kept,
            batch_size=generation.batch_size,
            on_batch=on_batch,
        )
    return [row for rows in answers for row in rows]


def _vllm_settings(recipe: Recipe) -> VllmSettings:
    """vLLM as for rollouts, with room for the completions of the evaluation, and on all of the memory that is free."""
    from jigsaw.engines.vllm_requests import VllmSettings

    rollout = recipe.rollout
    longer = recipe.completion_limit - (recipe.grpo.max_completion_length if recipe.grpo is not None else 0)
    return VllmSettings(
        dtype=recipe.model.dtype,
        seed=recipe.seed,
        max_model_len=rollout.max_model_len + max(longer, 0),
        tensor_parallel_size=rollout.tensor_parallel_size,
        enforce_eager=rollout.enforce_eager,
    )
