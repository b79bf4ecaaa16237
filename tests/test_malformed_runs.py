"""Malformed recipes, run records and checkpoints: a one-line error with file, key and remedy."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jigsaw.config.loading import load_recipe
from jigsaw.config.schema import Recipe
from jigsaw.errors import JigsawError
from jigsaw.launch.checks import validate_settings
from jigsaw.models.checkpoint_files import require_files
from jigsaw.run_folder import RunFolder

DEEP = "[" * 100_000 + "]" * 100_000
HUGE = "1" + "0" * 400
forty_examples = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refusal(call, *arguments, **options):
    """Returns the error of a call, which must be one line of less than 500 characters."""
    with pytest.raises(JigsawError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


# Recipes

RECIPE = """\
name: small
seed: 3
model: {tiny: qwen2_5_vl, sizes: {hidden_size: 64, num_layers: 1}}
data:
  photos: photos
  folder: data
  train: [{build: {task: image, source: "${data.photos}", grid: 2x2, per_source: 2}, weight: 1.0}]
  eval: [{build: {task: image, source: "${data.photos}", grid: 2x2, seed: 1}, limit: 5}]
sft: {max_steps: 1, learning_rate: 1.0e-4}
grpo: {max_steps: 1, prompts_per_step: 2, num_generations: 2, learning_rate: 1.0e-6}
rewards: [{use: visual_jigsaw, weight: 1.0, args: {discount: 0.2}}]
evaluation: {every: 0, batch_size: 8}
output: runs/small
"""


def key_paths(content, prefix=()):
    """Yields the path of every key of a recipe, including sections."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield (*prefix, key)
        if isinstance(value, dict | list):
            yield from key_paths(value, (*prefix, key))


yaml_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([10**400, -(10**400), "${data}", "${nothing}", "${", "${oc.env:HOME}", "a: b", "\0", "é"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)


@forty_examples
@given(path=st.sampled_from(list(key_paths(yaml.safe_load(RECIPE)))), value=yaml_values)
def test_a_recipe_with_any_value_is_loaded_or_refused_in_one_line(tmp_path, path, value):
    content = yaml.safe_load(RECIPE)
    *parents, last = path
    section = content
    for key in parents:
        section = section[key]
    section[last] = value
    file = tmp_path / "r.yaml"
    file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    try:
        assert isinstance(load_recipe(str(file)), Recipe)
    except JigsawError as error:
        assert "\n" not in str(error)


@forty_examples
@given(key=st.sampled_from([".".join(map(str, path)) for path in key_paths(yaml.safe_load(RECIPE))]), text=st.text())
def test_an_override_with_any_text_is_applied_or_refused_in_one_line(tmp_path, key, text):
    file = tmp_path / "r.yaml"
    file.write_text(RECIPE)
    try:
        assert isinstance(load_recipe(str(file), [f"{key}={text}"]), Recipe)
    except JigsawError as error:
        assert "\n" not in str(error)


# Records of a run


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path)
    folder.data.write_text(json.dumps({"train": ["a"], "eval": ["b"], "ids": {"train": ["1 x"], "eval": ["1 y"]}}))
    return folder


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ("[]", "is not a JSON object but a list"),
        (DEEP, "is nested too deeply"),
        (HUGE, "is not a JSON object but a number of 401 digits"),
        ("{}", "train is null, not a list of strings"),
        ('{"train": 5, "eval": []}', "train is 5, not a list of strings"),
        ('{"train": ["a"], "eval": [null]}', "eval is a list, not a list of strings"),
        ('{"train": ["a"], "eval": ["b"], "ids": []}', "ids.train is null, not a list of strings"),
        ('{"train": ["a"], "eval": ["b"], "ids": {"train": ["x"]}}', "ids.eval is null, not a list of strings"),
        (r'{"train": ["a\u0000"], "eval": []}', "train is a list, not a list of strings"),
    ],
)
def test_a_damaged_record_of_the_puzzle_sets_is_refused_with_the_remedy(run, content, message):
    run.data.write_text(content)
    error = refusal(run.read_sets)
    assert error.startswith(str(run.data)) and message in error and error.endswith("or start anew with output=FOLDER")


@pytest.mark.parametrize("content", ["", "[]", DEEP, '{"resumed": 5}'])
def test_a_damaged_run_json_is_refused_with_the_remedy(run, content, tmp_path):
    from jigsaw.launch.provenance import record_start

    file = tmp_path / "r.yaml"
    file.write_text(RECIPE)
    run.info.write_text(content)
    assert "delete it to continue" in refusal(record_start, load_recipe(str(file)), run)


# Rewards


@pytest.mark.parametrize("override", ["rewards=[{{use: '{file}:caption_match'}}]", "metrics=['{file}:caption_match']"])
def test_a_reward_that_needs_a_missing_column_is_refused_before_anything_is_built(tmp_path, override):
    (tmp_path / "mine.py").write_text("def caption_match(completions, caption, **columns):\n    return [0.0] * 9\n")
    file = tmp_path / "r.yaml"
    file.write_text(RECIPE)
    recipe = load_recipe(str(file), [override.format(file=tmp_path / "mine.py")])
    message = refusal(validate_settings, recipe)
    assert "mine.py:1) needs the column caption, which the rows do not have" in message


# Checkpoints


@pytest.fixture
def copy(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "copy")


def set_value(file: Path, key: str, raw: str) -> None:
    """Sets a dotted key of a JSON file to the JSON text `raw`."""
    content = json.loads(file.read_text())
    *parents, last = key.split(".")
    section = content
    for name in parents:
        section = section.setdefault(name, {})
    section[last] = "@"
    file.write_text(json.dumps(content).replace('"@"', raw))


@pytest.mark.parametrize(
    ("name", "key", "raw", "message"),
    [
        ("config.json", "architectures", "5", ""),
        ("config.json", "architectures", "[[]]", ""),
        ("config.json", "model_type", "[]", "the architecture [] is not supported"),
        ("config.json", "text_config.num_hidden_layers", "1000000000", "text_config.num_hidden_layers is 1000000000"),
        ("config.json", "text_config.num_hidden_layers", '"2"', "text_config.num_hidden_layers is '2', not a whole"),
        ("config.json", "text_config.hidden_size", "0", "text_config.hidden_size is 0, not a whole number from 1"),
        ("config.json", "vision_config.patch_size", "-14", "vision_config.patch_size is -14, not a whole number"),
        ("config.json", "vision_config.depth", "1.5", "vision_config.depth is 1.5, not a whole number from 1"),
        ("config.json", "text_config.vocab_size", HUGE, "text_config.vocab_size is a number of 401 digits"),
        ("config.json", "text_config.num_attention_heads", "true", "num_attention_heads is true, not a whole number"),
    ],
)
def test_an_invalid_value_of_a_configuration_is_refused_with_its_key(copy, name, key, raw, message):
    from jigsaw.models.load import load_model

    set_value(copy / name, key, raw)
    if message:
        assert message in refusal(require_files, copy)
        assert message in refusal(load_model, str(copy))
    else:
        require_files(copy)


PROCESSOR = ("processor_config.json", "preprocessor_config.json")


@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ("patch_size", "0"),
        ("patch_size", '"14"'),
        ("merge_size", "null"),
        ("merge_size", "1000000"),
        ("temporal_patch_size", "[2]"),
        ("image_mean", "[0.5]"),
        ("image_mean", "[NaN, 0, 0]"),
        ("image_std", "[0, 0, 0]"),
        ("rescale_factor", '"x"'),
        ("do_normalize", "5"),
        ("size.longest_edge", HUGE),
        ("size.shortest_edge", "-5"),
        ("size", "[]"),
    ],
)
def test_an_invalid_value_of_an_image_processor_is_refused_with_its_key(copy, key, raw):
    """The value must not change the pictures without an error, and the error names the file."""
    from jigsaw.models.load import load_processor

    (file,) = (copy / name for name in PROCESSOR if (copy / name).is_file())
    content = json.loads(file.read_text())
    inner = "image_processor." if "image_processor" in content else ""
    set_value(file, inner + key, raw)
    message = refusal(load_processor, str(copy))
    assert str(copy) in message and key.rpartition(".")[2] in message + key


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["", "[]", "5", DEEP, '"x"'])
def test_a_checkpoint_file_that_is_not_a_json_object_is_refused_by_name(copy, name, content):
    from jigsaw.models.load import load_model, load_processor

    (copy / name).write_text(content)
    for call in (require_files, lambda folder: load_model(str(folder)), lambda folder: load_processor(str(folder))):
        message = refusal(call, copy)
        assert message.startswith(str(copy / name))
        assert "copy the file of the base model" in message


@pytest.mark.parametrize("target", ["../secret.safetensors", "/etc/passwd", "a/../../b.safetensors", ""])
def test_a_weight_index_with_a_path_outside_the_checkpoint_is_refused(copy, tmp_path, target):
    from jigsaw.models.load import load_model

    (copy / "model.safetensors").rename(tmp_path / "secret.safetensors")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": target}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    for call in (require_files, lambda folder: load_model(str(folder))):
        assert "leads out of the checkpoint's folder" in refusal(call, copy)


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": 5}', '{"weight_map": {"a": 5}}', DEEP])
def test_a_malformed_weight_index_is_refused(copy, index):
    (copy / "model.safetensors.index.json").write_text(index)
    assert "model.safetensors.index.json" in refusal(require_files, copy)


@pytest.mark.parametrize("raw", ['"x"', "[1, null]", "{}", "true", "1.5"])
def test_malformed_end_tokens_are_refused(copy, raw):
    from jigsaw.models.load import end_token_ids, load_processor

    (copy / "generation_config.json").write_text(f'{{"eos_token_id": {raw}}}')
    message = refusal(end_token_ids, str(copy), load_processor(str(copy)))
    assert "eos_token_id" in message or "generation settings" in message
