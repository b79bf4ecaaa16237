"""Recipes: finding, extending, overriding and resolving them, and one-line errors that name the file and the key."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jigsaw.config.loading import find_recipe, load_recipe, recipe_names
from jigsaw.config.stages import GrpoSection
from jigsaw.errors import JigsawError

RECIPE = """\
name: small
model: {tiny: qwen2_5_vl, sizes: {hidden_size: 64}}
data:
  photos: holiday
  train:
    - {build: {task: image, source: "${data.photos}", grid: 2x2}, weight: 1.0}
    - {path: old-puzzles}
  eval: [{path: heldout-puzzles, limit: 8}]
rewards: [{use: visual_jigsaw}]
grpo: {learning_rate: 1e-5, max_steps: 3}
output: runs/${name}
"""


@pytest.fixture
def write(tmp_path):
    def write_recipe(text, name="small.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write_recipe


@pytest.fixture
def small(write):
    return write(RECIPE)


def refusal(path, *overrides):
    """Returns the one-line error of a recipe without the path or the overrides with which it must begin."""
    with pytest.raises(JigsawError) as caught:
        load_recipe(path, overrides)
    line = str(caught.value)
    assert "\n" not in line
    start = f"override {' and '.join(map(repr, overrides))}: " if overrides else f"{path}: "
    assert line.startswith(start)
    return line.removeprefix(start)


# Loading


def test_a_loaded_recipe_is_resolved_and_typed(small):
    recipe = load_recipe(small)
    assert recipe.output == "runs/small"
    assert recipe.data.train[0].build.source == "holiday"
    assert recipe.data.train[0].build.config == {"grid": "2x2"}
    assert recipe.data.eval[0].limit == 8
    assert recipe.model.sizes.hidden_size == 64


def test_a_resolved_recipe_cannot_be_changed(small):
    with pytest.raises(ValueError, match="frozen"):
        load_recipe(small).seed = 3


@pytest.mark.parametrize(
    "written, value", [("1e-6", 1e-6), ("1.0e-6", 1e-6), ("1E-6", 1e-6), ("2e3", 2000.0), ("3", 3.0)]
)
def test_numbers_in_scientific_notation_are_numbers(small, write, written, value):
    from_override = load_recipe(small, [f"grpo.learning_rate={written}"]).grpo.learning_rate
    from_file = load_recipe(write(RECIPE.replace("1e-5", written), "other.yaml")).grpo.learning_rate
    assert from_override == from_file == value
    from_extra = load_recipe(small, [f"grpo.extra.top_entropy_quantile={written}"]).grpo.extra["top_entropy_quantile"]
    assert from_extra == value and not isinstance(from_extra, str)


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_loads(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert load_recipe(name).name
    assert find_recipe(name).stem == name


def test_the_quickstart_ships():
    assert "quickstart" in recipe_names()


# Finding


def test_an_unknown_recipe_name_is_refused_with_the_nearest_shipped_one():
    with pytest.raises(JigsawError, match=r"^'quickstrat' is neither .* did you mean quickstart\?$"):
        load_recipe("quickstrat")


@pytest.mark.parametrize("name", ["nowhere.yaml", "no/such/folder/x.yml"])
def test_a_missing_recipe_file_is_named(name):
    with pytest.raises(JigsawError, match=f"^{name}: no such recipe file$"):
        load_recipe(name)


def test_a_folder_is_refused_as_a_recipe(tmp_path):
    (tmp_path / "odd.yaml").mkdir()
    with pytest.raises(JigsawError, match=r"odd\.yaml: no such recipe file"):
        load_recipe(str(tmp_path / "odd.yaml"))


# Files that are not recipes


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "the recipe is empty"),
        ("\n\n", "the recipe is empty"),
        ("# only a comment\n", "name: this key is required (and 3 more)"),
        ("- a\n- b\n", "a recipe is a mapping of keys, this is a list"),
        ("3", "a recipe is a mapping of keys, this is a single value"),
        (b"\xff\xfen\x00", "is not UTF-8 text (byte 0); save it as UTF-8"),
        (b"name: caf\xe9", "is not UTF-8 text (byte 9); save it as UTF-8"),
        ("name: [", "invalid YAML, line 2, column 1"),
        ("a: b: c", "invalid YAML, line 1, column 5: mapping values are not allowed"),
        ("a: 1\na: 2\n", "invalid YAML, line 2, column 1: found duplicate key a"),
        ("a: 1\n---\na: 2\n", "invalid YAML, line 2, column 1"),
        ("a: \x00", "invalid YAML"),
        (
            "a: !!python/object/apply:os.getcwd []\n",
            "invalid YAML, line 1, column 4: could not determine a constructor",
        ),
    ],
)
def test_a_file_that_is_not_a_recipe_is_refused_with_the_reason(write, content, message):
    assert refusal(write(content)).startswith(message)


# Keys and values


@pytest.mark.parametrize(
    "override, message",
    [
        ("modle=1", "unknown key modle; did you mean model?"),
        ("model.dtpye=float32", "unknown key model.dtpye; did you mean dtype?"),
        ("model.sizes.hiden_size=64", "unknown key model.sizes.hiden_size; did you mean hidden_size?"),
        ("model.image.max_pixel=9", "unknown key model.image.max_pixel; did you mean max_pixels?"),
        ("data.foto=x", "unknown key data.foto; did you mean photos?"),
        ("data.train.1.weigth=2", "unknown key data.train.1.weigth; did you mean weight?"),
        ("data.train.0.build.per_sorce=2", "unknown key data.train.0.build.per_sorce: did you mean per_source?"),
        ("data.train.0.build.gird=3x3", "data.train.0.build: task image has no key 'gird'; did you mean grid?"),
        ("data.train.0.build.task=imgae", "data.train.0.build: no task is called 'imgae'; did you mean image?"),
        ("data.eval.0.limmit=2", "unknown key data.eval.0.limmit; did you mean limit?"),
        ("evaluation.evry=2", "unknown key evaluation.evry; did you mean every?"),
        ("rollout.engin=vllm", "unknown key rollout.engin; did you mean engine?"),
        ("zebra=2", "unknown key zebra; known: checkpoint, curriculum, data, description,"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(small, override, message):
    assert refusal(small, override).startswith(message)


def test_a_misspelt_required_key_is_reported_as_unknown_and_not_as_missing(write):
    assert refusal(write(RECIPE.replace("model:", "modle:"))) == "unknown key modle; did you mean model? (and 1 more)"


@pytest.mark.parametrize(
    "override, message",
    [
        ("seed=often", "seed: input should be a valid integer, unable to parse string as an integer, not 'often'"),
        ("seed=1.5", "seed: input should be a valid integer, got a number with a fractional part, not 1.5"),
        ("seed={a: b}", "seed: input should be a valid integer, not {'a': 'b'}"),
        ("model=3", "model: a mapping of keys is needed, not 3"),
        ("data.train=3", "data.train: a list is needed, not 3"),
        ("data.train=[]", "data.train: at least one entry is needed, not []"),
        ("data.train.0=3", "data.train.0: a mapping of keys is needed, not 3"),
        ("rewards=visual_jigsaw", "rewards: a list is needed, not 'visual_jigsaw'"),
        ("rewards=[visual_jigsaw]", "rewards.0: a mapping of keys is needed, not 'visual_jigsaw'"),
        ("grpo=yes please", "grpo: a mapping of keys is needed, not 'yes please'"),
        ("data.photos=3", "data.photos: input should be a valid string, not 3"),
        ("data.train.1.weight=0", "data.train.1.weight: input should be greater than 0, not 0"),
        ("data.train.1.weight=.inf", "data.train.1.weight: input should be a finite number, not inf"),
        ("data.train.1.weight=.nan", "data.train.1.weight: input should be"),
        ("data.train.0.build.heldout=1.5", "data.train.0.build.heldout: input should be less than 1, not 1.5"),
        ("data.train.0.build.grid=9x9", "data.train.0.build: task image: grid='9x9'"),
        ("model.dtype=float8", "model.dtype: input should be 'float32' or 'bfloat16', not 'float8'"),
        ("model.sizes.num_layers=0", "model.sizes.num_layers: input should be greater than or equal to 1, not 0"),
        ("name=a b", "name: string should match pattern"),
        ("name=../up", "name: string should match pattern"),
    ],
)
def test_an_invalid_value_is_refused_with_its_key(small, override, message):
    assert refusal(small, override).startswith(message)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["model.tiny=null"], "model: give path, a checkpoint folder or hub id, or tiny, an architecture"),
        (
            ["model.path=some/model", "model.tiny=neo"],
            "model: give either path or tiny; write tiny: null (tiny=null) to train the model at path",
        ),
        (["data.train.0.path=puzzles"], "data.train.0: give either path, build or conversations"),
        (["data.train.1.path=null"], "data.train.1: give either path, build or conversations"),
        (["grpo=null"], "recipe: give sft, grpo or both: there is nothing to train"),
        (["model.image={min_pixels: 900, max_pixels: 800}"], "model.image: min_pixels 900 is over max_pixels 800"),
    ],
)
def test_contradictory_values_are_refused(small, overrides, message):
    assert refusal(small, *overrides) == message


# Overrides


def test_an_override_of_a_list_item_does_not_change_the_others(small):
    recipe = load_recipe(small, ["data.train.0.weight=2", "data.train.0.build.grid=3x3", "data.train[1].weight=0.5"])
    first, second = recipe.data.train
    assert (first.weight, second.weight) == (2.0, 0.5)
    assert first.build.config == {"grid": "3x3"}
    assert first.build.source == "holiday"
    assert second.path == "old-puzzles"


def test_interpolations_use_overridden_values(small):
    recipe = load_recipe(small, ["data.photos=/home/me/photos", "name=mine"])
    assert recipe.data.train[0].build.source == "/home/me/photos"
    assert recipe.output == "runs/mine"


def test_an_override_may_contain_interpolations(small):
    assert load_recipe(small, ["output=elsewhere/${name}-${data.photos}"]).output == "elsewhere/small-holiday"


def test_overrides_merge_mappings_and_replace_lists(small):
    recipe = load_recipe(small, ["grpo={num_generations: 4}", "rewards=[{use: exact}]"])
    assert recipe.grpo == GrpoSection(learning_rate=1e-5, max_steps=3, num_generations=4)
    assert recipe.rewards == ({"use": "exact"},)


@pytest.mark.parametrize("override", ["model.path=some/model", "model={path: some/model}"])
def test_a_checkpoint_replaces_the_tiny_model_of_a_recipe(small, write, override):
    model = load_recipe(small, [override]).model
    assert (model.path, model.tiny) == ("some/model", None)
    child = write("defaults: small.yaml\nname: child\nmodel: {path: some/model}\n", "child.yaml")
    assert load_recipe(child).model == model
    back = load_recipe(child, ["model.tiny=neo"]).model
    assert (back.path, back.tiny) == (None, "neo")


def test_a_micro_batch_size_in_completions_replaces_one_in_tokens_of_the_recipe(small):
    by_tokens = ["grpo.tokens_per_micro_batch=4096"]
    assert load_recipe(small, by_tokens).grpo.per_device_train_batch_size is None
    recipe = load_recipe("image-qwen2.5-vl-7b", ["grpo.per_device_train_batch_size=16"])
    assert (recipe.grpo.per_device_train_batch_size, recipe.grpo.tokens_per_micro_batch) == (16, None)
    with pytest.raises(JigsawError, match="tokens_per_micro_batch cannot be combined with per_device_train_batch_size"):
        load_recipe(small, [*by_tokens, "grpo.per_device_train_batch_size=16"])


def test_the_last_of_two_overrides_wins(small):
    assert load_recipe(small, ["seed=1", "seed=2"]).seed == 2


@given(
    folder=st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1).map(lambda name: f"/p/{name} #1")
)
def test_a_folder_name_in_an_override_is_used_unchanged(tmp_path_factory, folder):
    path = tmp_path_factory.getbasetemp() / "folders.yaml"
    path.write_text(RECIPE)
    assert load_recipe(str(path), [f"data.photos={folder}"]).data.photos == folder


def test_a_quoted_override_is_a_string(small):
    assert load_recipe(small, ["data.photos='2024'"]).data.photos == "2024"
    assert load_recipe(small, ['data.photos="a: b"']).data.photos == "a: b"


@pytest.mark.parametrize(
    "override, message",
    [
        ("seed", "is not of the form key=value"),
        ("=3", "is not of the form key=value"),
        ("data..photos=3", "is not of the form key=value"),
        ("data.train.7.weight=2", "the recipe has no key data.train.7.weight; data.train has 2 entries (index 0 to 1)"),
        (
            "data.train.first.weight=2",
            "the recipe has no key data.train.first.weight; data.train has 2 entries (index 0 to 1)",
        ),
        ("rewards=[{use: exact}", "the value is invalid YAML"),
        ("data.photos=a: b", "for a text write data.photos='\"a: b\"'"),
        ("output=${", "no viable alternative at input"),
    ],
)
def test_an_invalid_override_is_quoted_in_the_error(small, override, message):
    with pytest.raises(JigsawError) as caught:
        load_recipe(small, [override])
    assert str(caught.value).startswith(f"override {override!r}")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "key, count",
    [
        ("data.train.4.weight", "data.train has 4 entries (index 0 to 3)"),
        ("data.eval.x.limit", "data.eval has 4 entries (index 0 to 3)"),
        ("rewards.1.weight", "rewards has 1 entry (index 0)"),
        ("logging.report_to.0.x", "logging.report_to has no entries"),
    ],
)
def test_an_index_outside_a_list_is_refused_with_the_length_of_the_list(key, count):
    overrides = ["logging.report_to=[]", f"{key}=2"]
    with pytest.raises(JigsawError, match=re.escape(f"the recipe has no key {key}; {count}")):
        load_recipe("mixture-tiny", overrides)


def test_an_error_names_only_the_overrides_that_cause_it(small):
    def line(*overrides):
        with pytest.raises(JigsawError) as caught:
            load_recipe(small, overrides)
        return str(caught.value)

    assert line("seed=3", "grpo.max_step=5", "name=x").startswith("override 'grpo.max_step=5': unknown key")
    pair = line("model.image.min_pixels=900", "seed=3", "model.image.max_pixels=800")
    assert pair.startswith("override 'model.image.min_pixels=900' and 'model.image.max_pixels=800': model.image: ")
    assert line("seed=often", "seed=never").startswith("override 'seed=never': seed: ")
    assert len(line(f"seed={'9 ' * 500}").splitlines()[0].split(": seed: ")[0]) < 130


def test_an_error_in_the_file_names_the_file_also_with_overrides(write):
    path = write(RECIPE.replace("seed: 1", "sead: 1") if "seed: 1" in RECIPE else RECIPE + "\nsead: 1\n")
    with pytest.raises(JigsawError) as caught:
        load_recipe(path, ["name=x"])
    assert str(caught.value).startswith(f"{path}: unknown key sead")


# Interpolation


@pytest.mark.parametrize(
    "override, message",
    [
        ("output=runs/${nmae}", "output: Interpolation key 'nmae' not found"),
        (
            "data.train.0.build.source=${data.fotos}",
            "data.train[0].build.source: Interpolation key 'data.fotos' not found",
        ),
        ("output=${frehs:runs/x}", "output: Unsupported interpolation type frehs"),
        ("output=???", "output: Missing mandatory value: output"),
    ],
)
def test_an_invalid_interpolation_is_refused_with_its_key(small, override, message):
    assert refusal(small, override) == message


def test_fresh_resolves_to_the_first_folder_that_does_not_exist(small, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    override = ["output=${fresh:runs/${name}}"]
    assert load_recipe(small, override).output == "runs/small"
    Path("runs/small").mkdir(parents=True)
    assert load_recipe(small, override).output == "runs/small-2"
    Path("runs/small-2").mkdir()
    assert load_recipe(small, override).output == "runs/small-3"
    assert not Path("runs/small-3").exists(), "loading a recipe creates no folder"


def test_fresh_resolves_to_the_latest_run_folder_when_resuming(small, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    override = ["output=${fresh:runs/x}"]
    assert load_recipe(small, override, resume=True).output == "runs/x"
    for folder in ("runs/x", "runs/x-2"):
        Path(folder).mkdir(parents=True)
        (Path(folder) / "recipe.yaml").write_text("name: x\n")
        assert load_recipe(small, override, resume=True).output == folder
    Path("runs/x-3").mkdir()
    assert load_recipe(small, override, resume=True).output == "runs/x-2", "an empty folder has no run to resume"
    assert load_recipe(small, override).output == "runs/x-4"


# Extending another recipe


def test_a_recipe_overrides_keys_of_its_parent_and_inherits_the_others(small, write):
    child = write("defaults: small.yaml\nname: child\ngrpo: {max_steps: 9}\nrewards: [{use: exact}]\n", "child.yaml")
    recipe = load_recipe(child)
    assert recipe.output == "runs/child"
    assert recipe.grpo == GrpoSection(learning_rate=1e-5, max_steps=9)
    assert recipe.rewards == ({"use": "exact"},)
    assert recipe.data == load_recipe(small).data


def test_defaults_can_be_chained_and_the_nearest_value_wins(small, write):
    write("defaults: small.yaml\nname: parent\nseed: 4\n", "parent.yaml")
    recipe = load_recipe(write("defaults: parent.yaml\nseed: 5\n", "child.yaml"))
    assert (recipe.name, recipe.seed) == ("parent", 5)


def test_a_shipped_recipe_can_be_extended_by_name(write, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(write("defaults: quickstart\nname: mine\noutput: here\n"))
    shipped = yaml.safe_load(find_recipe("quickstart").read_text())
    assert recipe.model.tiny == shipped["model"]["tiny"]
    assert recipe.output == "here"


def test_an_override_changes_an_inherited_value(small, write):
    child = write("defaults: small.yaml\nname: child\n", "child.yaml")
    assert load_recipe(child, ["data.train.0.build.grid=4x4"]).data.train[0].build.config == {"grid": "4x4"}


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_cycle_of_recipes_that_extend_each_other_is_refused(write, length):
    for number in range(length):
        path = write(f"defaults: r{(number + 1) % length}.yaml\n", f"r{number}.yaml")
    with pytest.raises(JigsawError, match=r"r\d\.yaml: defaults: the recipes extend each other in a circle$"):
        load_recipe(path)


@pytest.mark.parametrize(
    "defaults, message",
    [
        (
            "quickstrat",
            "defaults: 'quickstrat' is neither a recipe file nor a shipped recipe; did you mean quickstart?",
        ),
        ("gone.yaml", "defaults: gone.yaml: no such recipe file"),
        ("[quickstart]", "defaults: give the file or name of one recipe, not ['quickstart']"),
        ("3", "defaults: give the file or name of one recipe, not 3"),
    ],
)
def test_defaults_that_do_not_name_a_recipe_are_refused(write, defaults, message):
    assert refusal(write(f"defaults: {defaults}\n")) == message


def test_an_error_in_a_parent_names_the_file_of_the_parent(write):
    broken = write("name: [", "parent.yaml")
    with pytest.raises(JigsawError, match=f"^{broken}: invalid YAML"):
        load_recipe(write("defaults: parent.yaml\n"))


def test_data_photos_is_refused_for_a_recipe_that_does_not_use_it():
    with pytest.raises(
        JigsawError, match=r"override 'data\.photos=/mine': no puzzle set .* data\.train\.0\.build\.source=DIR"
    ):
        load_recipe("image-qwen2.5-vl-7b", ["data.photos=/mine"])
    assert load_recipe("quickstart", ["data.photos=/mine"]).data.train[0].build.source == "/mine"
