"""Private names of TRL, vLLM, transformers and other libraries that a package uses, with the places.

    python tests/private_names.py [FOLDER]

A private name of a library may change with every release of it. A name counts if it begins with one underscore and the
file that uses it does not define it: an attribute, an import, or a method of a class that derives from a library's and
that the class does not call itself.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

LIBRARIES = ("accelerate", "deepspeed", "peft", "torch", "transformers", "trl", "vllm", "datasets", "lmms_eval")
PACKAGE = Path(__file__).parents[1] / "jigsaw"


def private_names(folder: Path) -> dict[str, list[str]]:
    """Name -> places `file:line`, sorted, of every private name of a library in a folder of Python files."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.py"))}
    classes = {node.name: node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path, tree in trees.items():
        defined = _defined(tree, classes)
        for line, name in _used(tree, classes):
            if name.startswith("_") and not name.startswith("__") and name not in defined:
                found[name].append(f"{path.relative_to(folder)}:{line}")
    return dict(sorted(found.items()))


def _used(tree: ast.Module, classes: dict[str, ast.ClassDef]) -> list[tuple[int, str]]:
    used = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            used.append((node.lineno, node.attr))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            used += [(node.lineno, part) for part in parts]
        if isinstance(node, ast.ClassDef) and _foreign(node, classes):
            used += [(part.lineno, part.name) for part in node.body if isinstance(part, ast.FunctionDef)]
    return used


def _called_on_self(tree: ast.Module) -> set[str]:
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_self(node.value)}


def _defined(tree: ast.Module, classes: dict[str, ast.ClassDef]) -> set[str]:
    """What a file defines itself: functions, variables, fields, and attributes that its own methods set."""
    names = {"_replace", "_asdict", "_fields", "_exit"}  # documented names of Python's named tuples and of `os`
    called = _called_on_self(tree)
    foreign = {
        id(part) for node in classes.values() if _foreign(node, classes) for part in node.body if hasattr(part, "name")
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and (id(node) not in foreign or node.name in called):
            names.add(node.name)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            names.add(node.attr)
    return names


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "chosen")


def _foreign(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> bool:
    """Whether a class derives from one that the package does not define; Python's own have no methods to override."""
    bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    names = [base.id for base in bases if isinstance(base, ast.Name)]
    own = {"ABC", "Protocol", "NamedTuple", "TypedDict", "Exception", "ValueError", "BaseModel", "UserWarning"}
    return any(name not in own and (name not in classes or _foreign(classes[name], classes)) for name in names)


if __name__ == "__main__":
    names = private_names(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE)
    for name, places in names.items():
        print(f"{name:40} {', '.join(places)}")
    print(f"{len(names)} names, {sum(map(len, names.values()))} places")
