"""Import rules: the packages of `jigsaw/` have no import cycles; `tasks/` and `rewards/` import few of them."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import jigsaw

ROOT = Path(jigsaw.__file__).parent
PACKAGES = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
SHARED = {"errors", "plugins", "docstrings"}
"""Modules that tasks and rewards may import, so that other projects can use them without the framework."""


def imports(package: str) -> Iterator[tuple[str, str]]:
    """Yields file and imported package of every import of a package, also of imports in functions and for types."""
    folder = ROOT / package
    for file in folder.rglob("*.py") if folder.is_dir() else [folder.with_suffix(".py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module == "jigsaw":
                names = [f"jigsaw.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            used = {name.split(".")[1] for name in names if name.startswith("jigsaw.")} & PACKAGES
            yield from ((str(file), name) for name in used - {package})


def test_packages_have_no_import_cycles():
    graph = {package: {used for _, used in imports(package)} for package in PACKAGES}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle
    assert set(order) == PACKAGES
    assert order.index("errors") < order.index("data") < order.index("training") < order.index("cli")


def test_tasks_and_rewards_import_only_shared_modules_of_the_framework():
    forbidden = {
        (file, used)
        for package, allowed in (("rewards", SHARED), ("tasks", SHARED | {"rewards"}))
        for file, used in imports(package)
        if used not in allowed
    }
    assert not forbidden
