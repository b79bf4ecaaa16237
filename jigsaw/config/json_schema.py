"""The JSON schema of recipes, for editors that complete keys, describe them and mark mistakes.

In: the pydantic schema of a recipe. Out: JSON Schema (draft 2020-12). A recipe may extend another one, so no key is
required; any value may be an interpolation such as `${data.photos}`.
"""

from __future__ import annotations

from typing import Any

from jigsaw.config.schema import Recipe
from jigsaw.docstrings import attributes_of

INTERPOLATION = {"type": "string", "pattern": r"\$\{"}


def json_schema() -> dict[str, Any]:
    """The schema of a recipe file, as JSON values."""
    schema = Recipe.model_json_schema()
    models = {model.__name__: model for model in _sections(Recipe)}
    for name, section in {Recipe.__name__: schema, **schema["$defs"]}.items():
        section.pop("required", None)
        section["description"] = str(section.get("description", "")).partition("\n\nAttributes:")[0]
        described = attributes_of(models[name]) if name in models else {}
        for key, value in section.get("properties", {}).items():
            value.pop("title", None)
            if key in described:
                value["description"] = described[key]
            section["properties"][key] = _or_interpolated(value)
    schema["properties"]["defaults"] = {"type": "string", "description": "The recipe that this one extends."}
    # A key with dots changes one value of the extended recipe: `data.train.0.build.grid: 2x2`.
    schema["patternProperties"] = {r"\.": {}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _or_interpolated(value: dict[str, Any]) -> dict[str, Any]:
    """The schema of a value that may also be an interpolation."""
    about: dict[str, Any] = {key: value.pop(key) for key in ("description", "default") if key in value}
    choices = value.pop("anyOf", [value])
    return {**about, "anyOf": [*choices, INTERPOLATION]}


def _sections(model: Any) -> list[Any]:
    """A section and all sections below it."""
    from pydantic import BaseModel

    found, waiting = [], [model]
    while waiting:
        one = waiting.pop()
        if isinstance(one, type) and issubclass(one, BaseModel):
            if one not in found:
                found.append(one)
                waiting += [field.annotation for field in one.model_fields.values()]
        else:
            waiting += getattr(one, "__args__", ())
    return found
