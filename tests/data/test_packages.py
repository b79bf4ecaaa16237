"""The packages of jigsaw/data are layers: each imports only those before it."""

import ast
from pathlib import Path

import jigsaw.data

LAYERS = ("storage", "sources", "building", "importing", "loading", "inspection")
ROOT = Path(jigsaw.data.__file__).parent


def test_a_package_imports_only_those_before_it():
    upward = []
    for layer, name in enumerate(LAYERS):
        for file in (ROOT / name).glob("*.py"):
            nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            modules = [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
            packages = [module.split(".")[2] for module in modules if module.startswith("jigsaw.data.")]
            upward += [(file.name, package) for package in packages if LAYERS.index(package) > layer]
    assert not upward
    assert {file.parent.name for file in ROOT.glob("*/__init__.py")} == set(LAYERS)
