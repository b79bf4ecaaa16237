"""The `sft` and `grpo` sections: types, the paper's defaults, and agreement with the installed TRL."""

from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from jigsaw.config.loading import load_recipe
from jigsaw.config.schema import Recipe
from jigsaw.config.stages import GrpoSection, MicroBatches, SftSection
from jigsaw.config.trl_fields import FIXED, SET_BY_FRAMEWORK, UNUSED, optimizers, trl_fields
from jigsaw.errors import JigsawError
from jigsaw.training.trl_config import OWN_FIELDS, grpo_config, sft_config

SECTIONS = {"sft": SftSection, "grpo": GrpoSection}
PAPER = {
    "prompts_per_step": 32,
    "num_generations": 16,
    "max_completion_length": 2048,
    "learning_rate": 1e-6,
    "lr_scheduler_type": "constant",
    "beta": 0.0,
    "epsilon": 0.2,
    "loss_type": "dapo",
    "temperature": 1.0,
    "vllm_importance_sampling_correction": False,
}
"""arXiv 2509.25190, section 4.1."""
OTHER_DEFAULTS = {"max_length", "per_device_train_batch_size", "max_steps", "optim"}
"""Keys whose null has another form in TRL or is resolved by the framework."""


def trl_class(stage):
    import trl

    return {"sft": trl.SFTConfig, "grpo": trl.GRPOConfig}[stage]


def recipe(**sections):
    base = {"name": "x", "model": {"tiny": "qwen2_5_vl"}, "data": {"train": [{"path": "unused"}]}, "output": "unused"}
    return Recipe.model_validate(base | sections)


def refusal(*overrides):
    with pytest.raises(JigsawError) as caught:
        load_recipe("quickstart", overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value).partition(": ")[2]  # without the override


def test_the_defaults_of_grpo_are_the_papers_settings():
    section = GrpoSection()
    assert {key: getattr(section, key) for key in PAPER} == PAPER
    config = grpo_config(recipe(grpo={}), Path("unused"), [], [1.0])
    assert {key: getattr(config, key) for key in PAPER if key != "prompts_per_step"} == {
        key: value for key, value in PAPER.items() if key != "prompts_per_step"
    }


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_the_fields_read_from_the_source_of_trl_are_those_of_its_classes(stage):
    assert trl_fields(stage).keys() == {field.name for field in fields(trl_class(stage))}


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_keys_of_a_section_are_fields_of_trl_with_the_same_defaults(stage):
    known = {field.name: field for field in fields(trl_class(stage))}
    for key, field in SECTIONS[stage].model_fields.items():
        if key in OWN_FIELDS:
            continue
        assert key in known
        assert key not in SET_BY_FRAMEWORK | FIXED | dict.fromkeys(UNUSED)
        if key not in OTHER_DEFAULTS | PAPER.keys() and known[key].default is not MISSING:
            assert field.default == known[key].default, key


def test_schedules_and_optimizers_are_those_of_transformers():
    from transformers.trainer_utils import SchedulerType
    from transformers.training_args import OptimizerNames

    schedules = SftSection.model_json_schema()["properties"]["lr_scheduler_type"]["enum"]
    assert set(schedules) == {item.value for item in SchedulerType} - {"reduce_lr_on_plateau", "greedy"}
    assert set(optimizers()) == {item.value for item in OptimizerNames}


def test_keys_below_extra_are_passed_to_trl():
    extra = {"ddp_timeout": 60, "top_entropy_quantile": 0.5}
    config = grpo_config(recipe(grpo={"extra": extra}), Path("unused"), [], [1.0])
    assert (config.ddp_timeout, config.top_entropy_quantile) == (60, 0.5)
    config = sft_config(recipe(sft={"extra": {"ddp_timeout": 60}}), Path("unused"))
    assert config.ddp_timeout == 60


def test_answers_are_not_truncated_by_default():
    assert sft_config(recipe(sft={}), Path("unused")).max_length is None
    assert sft_config(recipe(sft={"max_length": 64}), Path("unused")).max_length == 64


@pytest.mark.parametrize(
    "override, message",
    [
        ("grpo.num_generation=3", "unknown key grpo.num_generation; did you mean num_generations?"),
        (
            "grpo.top_entropy_quantile=1e-7",
            "unknown key grpo.top_entropy_quantile; it is a field of TRL's GRPOConfig: write it below grpo.extra",
        ),
        (
            "grpo.top_entropy_quantil=1",
            "unknown key grpo.top_entropy_quantil; did you mean extra.top_entropy_quantile?",
        ),
        ("grpo.qqq=1", "unknown key grpo.qqq; known: adam_beta1, adam_beta2, adam_epsilon, beta, "),
        ("grpo.use_vllm=true", "grpo.use_vllm is set by the framework: in a recipe, see rollout.engine"),
        ("grpo.extra.use_vllm=true", "grpo.extra.use_vllm is set by the framework: in a recipe, see rollout.engine"),
        ("grpo.repetition_penalty=2", "grpo.repetition_penalty has no effect: rollout.engine samples"),
        ("grpo.extra.router_aux_loss_coef=0.01", "grpo.extra.router_aux_loss_coef has no effect: GRPO trains experts"),
        ("grpo.extra.generation_kwargs={}", "grpo.extra.generation_kwargs has no effect: "),
        (
            "grpo.extra.top_entropy_quantil=1",
            "unknown key grpo.extra.top_entropy_quantil; did you mean top_entropy_quantile?",
        ),
        ("grpo.extra.qqq=1", "unknown key grpo.extra.qqq; it is not a field of TRL's GRPOConfig"),
        ("sft.extra.padding_free=often", "sft.extra.padding_free: input should be a valid boolean, "),
        ("sft.extra.learning_rate=1", "sft.extra.learning_rate: learning_rate is a key of the section itself; write"),
        ("grpo.extra=3", "grpo.extra: a mapping of keys is needed, not 3"),
        ("grpo.learning_rate=fast", "grpo.learning_rate: input should be a valid number, "),
        ("grpo.learning_rate=0", "grpo.learning_rate: input should be greater than 0, not 0"),
        ("grpo.num_generations=1", "grpo.num_generations: a group of 1 has no other completion to compare with"),
        ("grpo.loss_type=gspo", "grpo.loss_type: input should be 'grpo', 'dapo', "),
        ("grpo.loss_type=luspo", "grpo: loss_type: luspo needs importance_sampling_level: sequence"),
        ("grpo.optim=adam_torch", "grpo.optim: unknown optimizer 'adam_torch'; did you mean adamw_torch?"),
        ("grpo.optim=muon", "grpo.optim: muon is only for the supervised stage; leave it out"),
    ],
)
def test_an_error_in_a_section_is_reported_with_its_key(override, message):
    assert refusal(override).startswith(message)


def test_without_the_source_of_trl_its_fields_are_checked_by_trl(monkeypatch):
    monkeypatch.setattr("jigsaw.config.trl_fields.trl_fields", lambda stage: {})
    assert load_recipe("quickstart", ["grpo.extra.no_such=1"]).grpo.extra == {"no_such": 1}
    with pytest.raises(JigsawError, match=r"^grpo: .*no_such"):
        grpo_config(load_recipe("quickstart", ["grpo.extra.no_such=1"]), Path("unused"), [], [1.0])


@pytest.mark.parametrize(
    "changes, processes, expected",
    [
        ({}, 1, MicroBatches(512, 1)),
        ({}, 8, MicroBatches(64, 1)),
        ({"per_device_train_batch_size": 8}, 8, MicroBatches(8, 8)),
        ({"num_generations": 3, "prompts_per_step": 2, "per_device_train_batch_size": 2}, 1, MicroBatches(2, 3)),
    ],
)
def test_the_completions_of_a_step_are_divided_among_processes_and_micro_batches(changes, processes, expected):
    assert GrpoSection(**changes).micro_batches(processes) == expected


def test_the_puzzles_of_a_supervised_step_are_divided_among_processes_and_micro_batches():
    assert SftSection().micro_batches(4) == MicroBatches(8, 1)
    assert SftSection(per_device_train_batch_size=3).micro_batches(4) == MicroBatches(3, 1)
    assert SftSection(prompts_per_step=16).micro_batches(4) == MicroBatches(4, 1)
    assert SftSection(prompts_per_step=16, per_device_train_batch_size=2).micro_batches(4) == MicroBatches(2, 2)


@pytest.mark.parametrize(
    "changes, processes, message",
    [
        ({}, 5, "grpo.prompts_per_step: 5 processes do not divide the 32 prompts of a step"),
        (
            {"per_device_train_batch_size": 7},
            1,
            "grpo.per_device_train_batch_size: 7 does not divide the 512 completions of a step",
        ),
        (
            {"per_device_train_batch_size": 8, "steps_per_generation": 3},
            1,
            "grpo.steps_per_generation: 3 micro-batches of 8 completions on 1 process do not divide into whole groups "
            "of 16",
        ),
        (
            {"per_device_train_batch_size": 32, "steps_per_generation": 3},
            1,
            "grpo.steps_per_generation: 3 x num_iterations 1 must be a multiple of the 16 micro-batches of a step",
        ),
    ],
)
def test_batch_sizes_that_do_not_divide_are_refused(changes, processes, message):
    with pytest.raises(JigsawError) as caught:
        GrpoSection(**changes).micro_batches(processes)
    assert str(caught.value) == message
