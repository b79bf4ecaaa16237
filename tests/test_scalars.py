"""YAML 1.1 values that read differently from their text, such as `16:00`, are refused with the cause and the remedy."""

import pytest
import yaml

from jigsaw.config.loading import load_recipe
from jigsaw.config.scalars import require_moderate
from jigsaw.errors import JigsawError

RECIPE = """
name: small
model: {tiny: qwen2_5_vl}
data:
  train: [{build: {task: image, source: samples, grid: 2x2}}]
grpo: {max_steps: 1}
output: runs/small
"""


@pytest.fixture
def load(tmp_path):
    """Loads the recipe with an additional line or with overrides."""

    def read(line="", *overrides):
        file = tmp_path / "small.yaml"
        file.write_text(RECIPE + line, encoding="utf-8")
        return load_recipe(str(file), overrides)

    return read


@pytest.mark.parametrize(
    ("option", "read"),
    [
        ("begin: 16:00", "the number 960"),
        ("deadline: 20:30:00", "the number 73800"),
        ("x: 1:30.5", "the number 90.5"),
        ("account: 0123", "the number 83"),
        ("account: 0x1F", "the number 31"),
        ("account: 0b11", "the number 3"),
        ("account: 1_000", "the number 1000"),
        ("account: 1e3", "the number 1000.0"),
        ("mem: 1.50", "the number 1.5"),
        ("partition: on", "true"),
        ("partition: Off", "false"),
        ("comment: no", "false"),
        ("comment: YES", "true"),
        ("comment: ~", "no value"),
        ("comment: null", "no value"),
        ("comment:", "no value"),
    ],
)
def test_an_sbatch_option_that_yaml_changes_is_refused_with_the_quoted_form(load, option, read):
    key, _, text = option.partition(":")
    message = (
        rf'distributed\.slurm\.{key}: YAML reads .* as {read}; for a text put it in quotes: {key}: "{text.strip()}"$'
    )
    with pytest.raises(JigsawError, match=message):
        load(f"distributed: {{slurm: {{{option} }}}}")
    with pytest.raises(JigsawError, match=message):
        load("", f"distributed.slurm={{{option} }}")
    quoted = load(f'distributed: {{slurm: {{{key}: "{text.strip()}"}}}}')
    assert quoted.distributed.slurm == {key: text.strip()}


def test_an_sbatch_option_that_yaml_does_not_change_needs_no_quotes(load):
    slurm = load(
        "distributed: {slurm: {exclusive: true, nice: 100, begin: now+1hour, date: 2024-10-01}}"
    ).distributed.slurm
    assert slurm == {"exclusive": True, "nice": 100, "begin": "now+1hour", "date": "2024-10-01"}


@pytest.mark.parametrize("text", ["no", "2024_10_01", "1e3", "007"])
def test_a_name_that_yaml_does_not_read_as_text_is_refused_with_the_reason(load, text):
    with pytest.raises(JigsawError, match=rf"""name: YAML reads {text} as .*; .* quotes: name='"{text}"'$"""):
        load("", f"name={text}")
    assert load("", f'name="{text}"').name == text


def test_a_boolean_word_in_place_of_a_choice_is_refused_with_the_choices(load):
    with pytest.raises(JigsawError, match=r"offload: YAML reads off as false; write one of none, optimizer, all$"):
        load("distributed: {offload: off}")


@pytest.mark.parametrize(
    "override", ["seed=0123", "seed=1:30", "data.train.0.build.grid=10:10", "rewards=[{use: exact, args: {a: 1:30}}]"]
)
def test_a_number_in_base_60_or_8_is_refused_in_every_section(load, override):
    with pytest.raises(JigsawError, match=r"YAML reads .* as the number"):
        load("", override)


@pytest.mark.parametrize(
    ("override", "value"), [("seed=1_000", 1000), ("seed=0x10", 16), ("data.train.0.build.materialize=yes", True)]
)
def test_numbers_and_booleans_are_read_as_yaml_does(load, override, value):
    recipe = load("", override)
    assert value in (recipe.seed, recipe.data.train[0].build.materialize)


def test_an_override_can_replace_a_value_that_would_be_refused(load):
    assert load("distributed: {slurm: {begin: 16:00}}", "distributed.slurm.begin='16:01:00 '").distributed.slurm


def test_a_tilde_expands_to_the_home_folder_in_every_path(load, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    recipe = load(
        "",
        "data.photos=~/photos",
        "data.folder=~/data",
        "data.train.0.build.source=${data.photos}",
        "data.eval=[{path: ~/sets/a}]",
        "model={path: ~/models/m, tiny: null}",
        "output=${fresh:'~/runs/x'}",
    )
    assert recipe.data.photos == recipe.data.train[0].build.source == "/home/me/photos"
    assert (recipe.data.folder, recipe.data.eval[0].path) == ("/home/me/data", "/home/me/sets/a")
    assert (recipe.model.path, recipe.output) == ("/home/me/models/m", "/home/me/runs/x")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
"""A text of a few hundred bytes that expands to 9 ** 9 values."""


@pytest.mark.parametrize("text", [BOMB, "a: &a [*a]\n", "[" * 5000 + "]" * 5000], ids=["bomb", "cycle", "deep"])
def test_a_yaml_text_that_would_fill_the_memory_is_refused(tmp_path, text):
    with pytest.raises((JigsawError, yaml.YAMLError)):
        require_moderate(text)
    (tmp_path / "bomb.yaml").write_text(text)
    with pytest.raises(JigsawError, match=r"bomb\.yaml: (the |invalid YAML)"):
        load_recipe(str(tmp_path / "bomb.yaml"))
