"""Lists the private names of TRL, vLLM, transformers and other libraries that a package uses.

    python tests/private_names.py [FOLDER]

A private name of a library may change with every release. A name counts if it begins with one underscore and the file
that uses it does not define it. It is an attribute, an import, or a method of a class that derives from a class of a
library and does not call the method itself.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

LIBRARIES = ("accelerate", "deepspeed", "peft", "torch", "transformers", "trl", "vllm", "datasets", "lmms_eval")
PACKAGE = Path(__file__).parents[1] / "jigsaw"


def private_names(folder: Path) -> dict[str, list[str]]:
    """Returns the private names of libraries in a folder of Python files, sorted, each with its places `file:line`."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.py"))}
    classes = {node.name: node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    names: defaultdict[str, list[str]] = defaultdict(list)
    for path, tree in trees.items():
        defined = _defined(tree, classes)
        for line, name in _used(tree, classes):
            if name.startswith("_") and not name.startswith("__") and name not in defined:
                names[name].append(f"{path.relative_to(folder)}:{line}")
    return dict(sorted(names.items()))


def _used(tree: ast.Module, classes: dict[str, ast.ClassDef]) -> list[tuple[int, str]]:
    used = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            used.append((node.lineno, node.attr))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            used += [(node.lineno, part) for part in parts]
        if isinstance(node, ast.ClassDef) and _derives_from_library(node, classes):
            used += [(part.lineno, part.name) for part in node.body if isinstance(part, ast.FunctionDef)]
    return used


def _called_on_self(tree: ast.Module) -> set[str]:
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_self(node.value)}


def _defined(tree: ast.Module, classes: dict[str, ast.ClassDef]) -> set[str]:
    """Returns the names that a file defines: functions, variables, fields, and attributes that its methods set."""
    names = {"_replace", "_asdict", "_fields", "_exit"}  # documented names of Python's named tuples and of `os`
    called = _called_on_self(tree)
    library_methods = {
        id(part)
        for node in classes.values()
        if _derives_from_library(node, classes)
        for part in node.body
        if hasattr(part, "name")
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and (
            id(node) not in library_methods or node.name in called
        ):
            names.add(node.name)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            names.add(node.attr)
    return names


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "chosen")


def _derives_from_library(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> bool:
    """Returns whether a class derives from a class of a library. Base classes of Python and pydantic do not count."""
    bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    names = [base.id for base in bases if isinstance(base, ast.Name)]
    excluded = {"ABC", "Protocol", "NamedTuple", "TypedDict", "Exception", "ValueError", "BaseModel", "UserWarning"}
    return any(
        name not in excluded and (name not in classes or _derives_from_library(classes[name], classes))
        for name in names
    )


if __name__ == "__main__":
    names = private_names(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE)
    for name, places in names.items():
        print(f"{name:40} {', '.join(places)}")
    print(f"{len(names)} names, {sum(map(len, names.values()))} places")
