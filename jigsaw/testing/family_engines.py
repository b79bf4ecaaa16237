"""Properties of a model family: samples of the engines, and the answers of an evaluation.

Each takes a `Case` and returns a figure, or raises `ContractError` if the property does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec

from jigsaw.testing.family_case import Case, within
from jigsaw.testing.findings import ContractError, NotChecked, Unknown


def transformers_samples_the_same(case: Case) -> str:
    """Greedy tokens with the repeated cache against `generate` of each prompt separately."""
    from jigsaw.engines import Sampling
    from jigsaw.engines.transformers import TransformersEngine
    from jigsaw.models.load import vision_token_ids
    from jigsaw.models.prompts import processor_inputs

    rows, forbidden = case.every_row, vision_token_ids(case.processor)
    end, limit = case.processor.tokenizer.eos_token_id, 12
    settings = Sampling(
        count=2,
        max_tokens=limit,
        top_k=1,
        seeds=tuple(range(len(rows))),
        forbidden_tokens=tuple(forbidden),
        end_tokens=(end,),
    )
    sampled = TransformersEngine(case.model, case.processor).generate(rows, settings).tokens
    total = 0
    for number, row in enumerate(rows):
        inputs = processor_inputs(case.processor, [row])
        options = {"max_new_tokens": limit, "do_sample": False, "suppress_tokens": forbidden, "eos_token_id": end}
        options["repetition_penalty"] = 1.0  # some checkpoints set another value, which the engines do not apply
        expected = case.model.generate(**inputs, **options)[0, inputs["input_ids"].shape[1] :].tolist()
        total += len(expected)
        if sampled[2 * number : 2 * number + 2] != [expected, expected]:
            raise ContractError(
                f"prompt {row['id']}: tokens differ from those of `generate`: {sampled[2 * number]}, {expected}"
            )
    return f"{total} of {total} tokens"


def vllm_agrees(case: Case) -> str:
    """vLLM's log-probabilities of its samples, colocated with the trainer and with its current weights. In nats."""
    if find_spec("vllm") is None:
        raise NotChecked("vLLM is not installed")
    import torch

    from jigsaw.config.schema import RolloutSection
    from jigsaw.engines import Sampling
    from jigsaw.engines.vllm import colocated_engine
    from jigsaw.engines.weights import Policy
    from jigsaw.models.load import vision_token_ids
    from jigsaw.models.prompt_batch import PromptBatch
    from jigsaw.models.shared_prefix import completion_log_probabilities

    rows, forbidden = case.every_row, tuple(vision_token_ids(case.processor))
    rollout = RolloutSection(engine="vllm", max_model_len=1024)
    model = deepcopy(case.model)
    with torch.no_grad():  # weights that the engine has not read from the folder
        for parameter in model.parameters():
            parameter.mul_(0.95)
    with _vllm_refusals():
        engine = colocated_engine(model.config, case.processor, rollout, device="cpu", dtype="float32", seed=0)
        engine.sync(Policy(model))
    settings = Sampling(count=3, max_tokens=12, seeds=tuple(range(len(rows))), forbidden_tokens=forbidden)
    found = engine.generate(rows, settings, PromptBatch.encode(model, case.processor, rows, "cpu"))
    groups = [found.tokens[3 * number : 3 * number + 3] for number in range(len(rows))]
    with torch.no_grad():
        ours = completion_log_probabilities(model, case.processor, rows, groups, forbidden_tokens=forbidden)
    flat = torch.cat([tokens for group in ours for tokens in group])
    theirs = torch.tensor([value for values in found.log_probabilities or () for value in values])
    return within(float((flat - theirs).abs().max()))


@contextmanager
def _vllm_refusals() -> Iterator[None]:
    """The property does not apply if this build of vLLM does not run the architecture on this device."""
    try:
        yield
    except Exception as error:
        raise Unknown(
            f"this build of vLLM does not run it: {type(error).__name__}: {str(error).splitlines()[0]}"
        ) from error


def evaluation_answers(case: Case) -> str:
    """The reopened checkpoint gives the same greedy texts one by one and in a batch."""
    from jigsaw.answering.generation import Generation, open_engine

    rows = case.every_row
    answers = open_engine(str(case.folder), Generation(max_new_tokens=8, batch_size=len(rows)))
    together, alone = answers(rows), [answers([row])[0] for row in rows]
    answers.close()
    if together != alone:
        raise ContractError(f"texts depend on the batch: {together} in a batch, {alone} one by one")
    return f"{len(together)} texts"
