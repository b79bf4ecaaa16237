"""`jigsaw recipes`: those that ship, a recipe of one's own, and the schema with which editors read recipes."""

import json

import jsonschema
import pytest
import typer
import yaml

from jigsaw.cli.command import app
from jigsaw.config.json_schema import json_schema
from jigsaw.config.loading import find_recipe, load_recipe, recipe_names
from jigsaw.config.starter import write_starter
from jigsaw.errors import JigsawError
from jigsaw.launch.estimate_text import CPU, shipped_recipes


@pytest.fixture(scope="module")
def validator():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(json.loads(json.dumps(schema)))


@pytest.mark.parametrize("name", recipe_names())
def test_an_editor_finds_no_mistake_in_a_recipe_that_ships(validator, name):
    content = yaml.safe_load(find_recipe(name).read_text())
    assert [error.message for error in validator.iter_errors(content)] == []


@pytest.mark.parametrize(
    "content",
    [
        {"seeed": 1},
        {"grpo": {"max_step": 3}},
        {"model": {"dtype": "float16"}},
        {"data": {"train": [{"build": {"task": "image", "source": "a", "per_source": 0}}]}},
        {"seed": "one"},
        {"evaluation": {"every": True}},
    ],
)
def test_an_editor_marks_what_a_run_would_refuse(validator, content):
    assert list(validator.iter_errors(content))


def test_every_key_says_what_it_means(validator):
    schema = validator.schema
    sections = {"Recipe": schema, **schema["$defs"]}
    silent = [
        f"{name}.{key}"
        for name, section in sections.items()
        for key, value in section.get("properties", {}).items()
        if not value.get("description")
    ]
    assert silent == []


def test_recipes_are_listed_with_what_anyone_can_run_first():
    rows = shipped_recipes()
    on_cpus = [row["machine"] == CPU for row in rows]
    assert on_cpus == sorted(on_cpus, reverse=True) and {"quickstart"} < {
        row["name"] for row in rows if row["machine"] == CPU
    }
    assert sorted(row["name"] for row in rows) == recipe_names()


def test_a_piped_listing_has_one_whole_line_per_recipe(capsys, monkeypatch):
    """Given an output that is not a terminal, then each line begins with a name and ends with the hours, uncut."""
    monkeypatch.setenv("COLUMNS", "40")
    typer.main.get_command(app)(["recipes"], standalone_mode=False)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "recipe"
    assert [line.split()[0] for line in lines] == [row["name"] for row in shipped_recipes()]
    for line, row in zip(lines, shipped_recipes(), strict=True):
        assert row["description"] in line and line.endswith(f"  {row['hours']}")


def as_written(recipe):
    return recipe.model_dump(exclude={"name", "description", "output"})


@pytest.mark.parametrize("name", ["quickstart", "image-qwen2.5-vl-7b", "neo-2b-sft"])
def test_a_recipe_of_ones_own_is_what_it_extends_with_its_keys_to_change(tmp_path, name):
    file = tmp_path / "my run.yaml"
    write_starter(file, name)
    mine = load_recipe(str(file))
    assert mine.name == "my-run" and as_written(mine) == as_written(load_recipe(name))
    head, _, shown = file.read_text().partition("replaces the complete list.\n")
    file.write_text(head + "\n" + "\n".join(line.removeprefix("# ") for line in shown.splitlines()))
    assert as_written(load_recipe(str(file))) == as_written(mine)


def test_a_recipe_of_ones_own_overwrites_nothing(tmp_path):
    (tmp_path / "mine.yaml").write_text("mine")
    with pytest.raises(JigsawError, match="exists already"):
        write_starter(tmp_path / "mine.yaml", "quickstart")
    with pytest.raises(JigsawError, match=r"ends in \.yaml"):
        write_starter(tmp_path / "mine.txt", "quickstart")
    with pytest.raises(JigsawError, match="no such folder"):
        write_starter(tmp_path / "none" / "mine.yaml", "quickstart")
    assert (tmp_path / "mine.yaml").read_text() == "mine"
