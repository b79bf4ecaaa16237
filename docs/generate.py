"""Generated documentation: pages of the reference, and computed numbers in recipes, README and docs/gpu.md.

    python docs/generate.py [--check]

In: the typer application, the pydantic models, the shipped recipes, the tasks, `families.json` beside this file. Out:
`command.md`, `recipe.md`, `recipes.md` and `tasks.md` in `reference/`; `models.md`; the signatures in
`reference/python.md`; the lines `Hardware` and `Hours` in the heads of recipes; the table of recipes and GPUs in
README.md and gpu.md; the tables of models and tasks in README.md. `--check` writes nothing and fails if a file is out
of date.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from jigsaw.cli import command as cli
from jigsaw.config import schema
from jigsaw.config.loading import find_recipe, load_recipe, recipe_names
from jigsaw.docstrings import attributes_of
from jigsaw.launch.estimate_text import shipped_recipes
from jigsaw.listings import written
from jigsaw.tasks import describe_task

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # PYTHONSAFEPATH leaves it out
from choices import choices_table, head_of  # noqa: E402
from tables import (  # noqa: E402
    cell_text,
    families,
    families_table,
    models_table,
    ordered_tasks,
    package,
    properties_table,
    tasks_table,
)

NOTE = "<!-- Generated from the code by docs/generate.py; do not edit. -->\n"


def command_page() -> str:
    """Every command with its arguments, options and example."""
    lines = [
        "# The command",
        NOTE,
        "Every command has `--help`. Errors are one line with a remedy; `--debug` adds the traceback.",
        "",
        "| exit code | meaning |",
        "|---|---|",
        "| 0 | success |",
        "| 1 | error |",
        "| 2 | wrong usage |",
        "| 129 | the terminal was closed |",
        "| 130 | Ctrl-C |",
        "| 143 | SIGTERM |",
        "",
        "| command | what it does |",
        "|---|---|",
    ]
    commands = list(_commands(typer.main.get_command(cli.app), "jigsaw"))
    lines += [
        f"| [`{path}`](#{path.replace(' ', '-')}) | {cell_text(_summary(command))} |" for path, command in commands
    ]
    for path, command in commands:
        lines += ["", f"## {path}", "", *_paragraphs(command.help)]
        context = typer.Context(command, info_name=path)
        lines += ["", f"`{' '.join([path, *command.collect_usage_pieces(context)])}`", ""]
        rows = [row for parameter in command.params if (row := _row(parameter, context))]
        if rows:
            lines += ["| argument or option | meaning | default |", "|---|---|---|", *rows]
        if command.epilog:
            lines += ["", "```bash", command.epilog.removeprefix("Example: "), "```"]
    return "\n".join(lines) + "\n"


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name in sorted(group.commands):
        command = group.commands[name]
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _summary(command: Any) -> str:
    return (command.help or "").strip().partition("\n")[0]


def _paragraphs(text: str | None) -> list[str]:
    return inspect.cleandoc(text or "").splitlines()


def _row(parameter: Any, context: Any) -> str | None:
    record = parameter.get_help_record(context)
    if parameter.name == "help" or record is None:
        return None
    text, _, extra = record[1].rpartition("  [") if record[1].endswith("]") else (record[1], "", "")
    notes = [note.removeprefix("default: ") for note in extra.rstrip("]").split("; ")]
    default = "; ".join(note for note in notes if "x>=" not in note)  # smaller values are refused with a message
    return f"| `{_kind_of_value(record[0])}` | {cell_text(text)} | {cell_text(default)} |"


def _kind_of_value(name: str) -> str:
    """The kind of value after the name, in short form.

    >>> _kind_of_value("--limit <int range>"), _kind_of_value("--frames <list[int]>")
    ('--limit <int>', '--frames <int>')
    """
    if name.startswith(("KEY=VALUE", "NAME ")):
        return name.partition(" <")[0]
    return re.sub(r"list\[(\w+)\]", r"\1", name).replace(" range>", ">").replace("<Path>", "<path>")


def recipe_page() -> str:
    """Every section and key with type, default and meaning."""
    lines = [
        "# The recipe",
        NOTE,
        "A recipe is one YAML file per run. `defaults: NAME` extends another one, `key.sub=value` on the command line",
        "overrides a key, `${key.sub}` refers to one, and a key that is not listed here is refused with the nearest",
        "known one. Other fields of TRL's `SFTConfig` and `GRPOConfig` are written below `sft.extra` and `grpo.extra`.",
        "[The reward contract](reward-contract.md) describes the entries of `rewards`, and [the tasks](tasks.md)",
        "describe the keys of a `build` that configure a task. [The shipped recipes](recipes.md) are examples.",
        "",
        "- Paths (`path`, `source`, `output`, plug-in files) are relative to the folder in which `jigsaw` is called;",
        "  `defaults: FILE.yaml` is relative to the recipe.",
        "- If `output` is `${fresh:...}`, `--resume` continues the newest folder.",
        "- To train a finished run further, start a new run with `model.path=runs/NAME/model`.",
        "",
        "`jigsaw recipes init mine.yaml --from NAME` writes a recipe of your own to start from. Editors with a YAML",
        "language server complete keys and mark mistakes if they have the schema. Write it with `jigsaw recipes",
        "schema > recipe.schema.json`, and name it in the first line of the recipe:",
        "`# yaml-language-server: $schema=recipe.schema.json`.",
    ]
    titles = {model: title for title, model in _sections()}
    for model, title in titles.items():
        lines += ["", f"## {title}", "", *_paragraphs(_doc(model))]
        described = attributes_of(model)
        lines += ["", "| key | type | default | meaning |", "|---|---|---|---|"]
        for key, field in model.model_fields.items():
            kind = _type(field.annotation)
            for inner, _ in _models(field.annotation):
                kind = kind.replace("section", f"[section](#{re.sub(r'[^a-z_]', '', titles[inner])})")
            lines.append(f"| `{key}` | {kind} | {_default(field)} | {cell_text(described.get(key, ''))} |")
    return "\n".join(lines) + "\n"


def recipes_page() -> str:
    """Every shipped recipe with its machine."""
    lines = [
        "# Shipped recipes",
        NOTE,
        "`jigsaw launch NAME` runs a recipe, `--dry-run` shows it. The head of each file in `recipes/` describes the",
        "data that it needs, how to get them, and the scores of the paper to compare with. Hours on GPUs are",
        "[computed](../gpu.md), not measured; if the number of steps depends on the number of puzzles, the table has",
        "seconds per step.",
        "",
        "| name | what it trains | machine | hours |",
        "|---|---|---|---|",
    ]
    rows = [
        f"| `{one['name']}` | {cell_text(one['description'])} | {one['machine']} | {one['hours']} |"
        for one in shipped_recipes()
    ]
    return "\n".join(lines + rows) + "\n"


def recipe_file(name: str) -> str:
    """A recipe's file with the computed lines in its head."""
    text = find_recipe(name).read_text(encoding="utf-8")
    if (head := head_of(load_recipe(name, ["output=runs/x"]))) is None:
        return text
    return re.sub(r"^# Hardware .*?(?=^# Data)", "\n".join(head) + "\n", text, count=1, flags=re.MULTILINE | re.DOTALL)


def with_tables(file: Path) -> str:
    """A page with the generated tables between their marks."""
    text = file.read_text(encoding="utf-8")
    tables = {"recipes and GPUs": choices_table, "families": families_table}
    tables |= {"models": models_table, "tasks": tasks_table}
    for mark, table in tables.items():
        text = re.sub(
            rf"(<!-- {mark}, by docs/generate.py -->\n).*?(<!-- end -->)",
            lambda match, table=table: f"{match[1]}{table()}{match[2]}",
            text,
            flags=re.DOTALL,
        )
    return text


PUBLIC = ("data", "models", "evaluation", "audit", "report", "testing")
"""Packages whose functions `reference/python.md` lists; the contracts describe tasks and rewards."""


def python_page() -> str:
    """The Python page with the signatures of all public functions between its marks, read without imports."""
    lines: list[str] = []
    for name in PUBLIC:
        module = package()[name]
        lines += ["", f"### jigsaw.{name}"]
        for public in sorted(map(str, module.exports or ()), key=str.lower):
            member = module[public]
            member = member.final_target if member.is_alias else member
            if member.is_function and member.docstring is not None:
                lines += ["", f"#### {public}", "", "```text", *_signature(public, member), "```", ""]
                lines += _as_markdown(member.docstring.value)
    text = (HERE / "reference/python.md").read_text(encoding="utf-8")
    return re.sub(
        r"(<!-- signatures, by docs/generate.py -->\n).*?(<!-- end -->)",
        lambda match: match[1] + "\n".join([*lines[1:], "", ""]) + match[2],
        text,
        flags=re.DOTALL,
    )


def _signature(name: str, function: Any) -> list[str]:
    """A signature in one line, or with one line per parameter if it is too long."""
    line = str(function.signature(name=name))
    if len(line) <= 110:
        return [line]
    parameters: list[str] = []
    keyword_only = False
    for one in function.parameters:
        kind = one.kind.value if one.kind else ""
        if kind == "keyword-only" and not keyword_only:
            parameters.append("    *,")
            keyword_only = True
        stars = {"variadic positional": "*", "variadic keyword": "**"}.get(kind, "")
        annotated = f"{stars}{one.name}: {one.annotation}" if one.annotation else f"{stars}{one.name}"
        parameters.append(f"    {annotated}{f' = {one.default}' if one.default is not None and not stars else ''},")
    return [f"{name}(", *parameters, f") -> {function.returns}"]


def _as_markdown(docstring: str) -> list[str]:
    """A docstring with its sections as lists."""
    lines: list[str] = []
    section = ""
    for line in docstring.splitlines():
        if line in ("Args:", "Returns:", "Raises:", "Yields:", "Attributes:"):
            section = line
            lines += [f"*{line.removesuffix(':')}*", ""]
        elif section and line.startswith("        ") and lines[-1]:
            lines[-1] += f" {line.strip()}"
        elif section and line.startswith("    "):
            name, colon, meaning = line.strip().partition(": ")
            named = colon and section != "Returns:"
            lines.append(
                f"- `{name}`: {meaning}" if named else (f"- {line.strip()}" if section != "Returns:" else line.strip())
            )
        else:
            section = section if not line else ""
            lines.append(line)
    return lines


def models_page() -> str:
    """Supported models, their test results, and the properties of each family."""
    lines = [
        "# Models",
        NOTE,
        "Every family is one file in `jigsaw/models/families/`. An architecture without a file is refused with one",
        "line that lists the supported ones, because guessed positions and attention masks would give wrong",
        "log-probabilities without any error. `benchmarks/families.py` checks the contract",
        "(`jigsaw.testing.check_family`) on a tiny model of each family from random weights, in float32 on a CPU. It",
        "writes every cell of the table.",
        "",
        "<!-- families, by docs/generate.py -->",
        families_table() + "<!-- end -->",
        "",
        "The reference for log-probabilities is the model's own forward pass on one sequence without padding.",
        "Differences of up to 1e-4 nats count as rounding. A run repeats the comparison on its first group",
        "(`sampling.self_check`).",
        "",
        properties_table(),
        "",
        "## Properties of each family",
        "",
    ]
    lines += [f"- **{title}** (`{model_type}`). {described}" for model_type, title, described in families()]
    lines += [
        "",
        "## A family of your own",
        "",
        "Write a subclass of `jigsaw.models.families.base.Family` with `tiny`, list it in `MODEL_TYPES` and in",
        "`TinyArchitecture`, and run `python benchmarks/families.py YOUR_MODEL_TYPE`. Its test is one line:",
        "`assert_family(NAME)` of `jigsaw.testing`, where `NAME` is a tiny architecture or a checkpoint folder.",
    ]
    return "\n".join(lines) + "\n"


def tasks_page() -> str:
    """The settings of every built-in task, and its reasons for rejecting sources."""
    lines = [
        "# The tasks",
        NOTE,
        "These are the keys that configure a task, as `KEY=VALUE` on the command line or below `build` in a recipe.",
        "`jigsaw tasks NAME` prints them too. A plug-in task has its own keys ([the contract](task-contract.md)).",
    ]
    for name in ordered_tasks():
        task = describe_task(name)
        lines += ["", f"## {name}", "", task["doc"], "", "| key | type | default | meaning |", "|---|---|---|---|"]
        for key in task["config"]:
            kind = cell_text(key["type"].replace("string", "text").replace(" | ", " or "))
            lines.append(f"| `{key['key']}` | {kind} | `{written(key['default'])}` | {cell_text(key['doc'])} |")
        lines += ["", "| reason in `rejects.jsonl` | meaning |", "|---|---|"]
        lines += [f"| `{reason}` | {cell_text(meaning)} |" for reason, meaning in task["reasons"].items()]
    return "\n".join(lines) + "\n"


def _sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """The recipe and its sections, parents first; the title is the path of keys."""
    waiting: list[tuple[str, type[BaseModel]]] = [("all sections", schema.Recipe)]
    seen = set()
    while waiting:
        title, model = waiting.pop(0)
        if model in seen:
            continue
        seen.add(model)
        yield title, model
        subsections: list[tuple[str, type[BaseModel]]] = []
        below = "" if model is schema.Recipe else f"{title}."
        for key, field in model.model_fields.items():
            subsections += [(f"{below}{key}{'[]' if many else ''}", inner) for inner, many in _models(field.annotation)]
        waiting = subsections + waiting


def _models(annotation: Any, many: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation, many
    for inner in get_args(annotation):
        if get_origin(annotation) is not Literal:
            yield from _models(inner, many or get_origin(annotation) is tuple)


def _doc(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "").partition("\nAttributes:")[0].strip()


def _type(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return " or ".join("null" if inner is type(None) else _type(inner) for inner in get_args(annotation))
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(annotation))
    if origin is tuple:
        return f"list of {_type(get_args(annotation)[0])}"
    if origin is dict or annotation is dict:
        return "mapping"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "section"
    return {str: "text", int: "int", float: "number", bool: "true or false"}.get(annotation, "any")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or isinstance(value, BaseModel):
        return ""
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(inner)}" for key, inner in value.items()) + "}"
    return str(value) or '""'


PAGES: dict[Path, Callable[[], str]] = {
    HERE / "reference/command.md": command_page,
    HERE / "reference/python.md": python_page,
    HERE / "reference/recipe.md": recipe_page,
    HERE / "reference/recipes.md": recipes_page,
    HERE / "reference/tasks.md": tasks_page,
    HERE / "models.md": models_page,
    **{file: partial(with_tables, file) for file in (HERE / "gpu.md", HERE.parent / "README.md")},
    **{find_recipe(name): partial(recipe_file, name) for name in recipe_names()},
}


def main(check: bool) -> int:
    """Write the files, or report which are out of date."""
    stale = [file for file, page in PAGES.items() if not _same(file, page())]
    for file in stale:
        if check:
            print(f"{file} is out of date: run `python docs/generate.py`", file=sys.stderr)  # noqa: T201
        else:
            file.write_text(PAGES[file](), encoding="utf-8")
    return int(check and bool(stale))


def _same(file: Path, text: str) -> bool:
    return file.exists() and file.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
