"""`jigsaw recipes`: the shipped recipes, starter recipes, and the JSON schema for editors."""

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
def test_a_shipped_recipe_is_valid_under_the_schema(validator, name):
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
def test_an_invalid_recipe_is_invalid_under_the_schema(validator, content):
    assert list(validator.iter_errors(content))


def test_every_key_of_the_schema_has_a_description(validator):
    schema = validator.schema
    sections = {"Recipe": schema, **schema["$defs"]}
    undescribed = [
        f"{name}.{key}"
        for name, section in sections.items()
        for key, value in section.get("properties", {}).items()
        if not value.get("description")
    ]
    assert undescribed == []


def test_recipes_for_cpus_are_listed_first():
    rows = shipped_recipes()
    on_cpus = [row["machine"] == CPU for row in rows]
    assert on_cpus == sorted(on_cpus, reverse=True) and {"quickstart"} < {
        row["name"] for row in rows if row["machine"] == CPU
    }
    assert sorted(row["name"] for row in rows) == recipe_names()


def test_a_piped_listing_has_one_line_per_recipe_that_is_not_truncated(capsys, monkeypatch):
    """Given an output that is not a terminal, each line begins with the name and ends with the hours."""
    monkeypatch.setenv("COLUMNS", "40")
    typer.main.get_command(app)(["recipes"], standalone_mode=False)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "recipe"
    assert [line.split()[0] for line in lines] == [row["name"] for row in shipped_recipes()]
    for line, row in zip(lines, shipped_recipes(), strict=True):
        assert row["description"] in line and line.endswith(f"  {row['hours']}")


def without_name_and_output(recipe):
    return recipe.model_dump(exclude={"name", "description", "output"})


@pytest.mark.parametrize("name", ["quickstart", "image-qwen2.5-vl-7b", "neo-2b-sft"])
def test_a_starter_recipe_equals_the_recipe_that_it_extends_and_lists_its_keys(tmp_path, name):
    file = tmp_path / "my run.yaml"
    write_starter(file, name)
    mine = load_recipe(str(file))
    assert mine.name == "my-run" and without_name_and_output(mine) == without_name_and_output(load_recipe(name))
    head, _, shown = file.read_text().partition("replaces the complete list.\n")
    file.write_text(head + "\n" + "\n".join(line.removeprefix("# ") for line in shown.splitlines()))
    assert without_name_and_output(load_recipe(str(file))) == without_name_and_output(mine)


def test_a_starter_recipe_does_not_overwrite_a_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("mine")
    with pytest.raises(JigsawError, match="exists already"):
        write_starter(tmp_path / "mine.yaml", "quickstart")
    with pytest.raises(JigsawError, match=r"ends in \.yaml"):
        write_starter(tmp_path / "mine.txt", "quickstart")
    with pytest.raises(JigsawError, match="no such folder"):
        write_starter(tmp_path / "none" / "mine.yaml", "quickstart")
    assert (tmp_path / "mine.yaml").read_text() == "mine"
