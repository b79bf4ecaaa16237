"""Mutation testing: changes the scoring code in one place at a time and reports changes that no test detects.

    python tests/mutate.py FILE ... [--sample N] [--seed S]

A change inverts one comparison, replaces one operator or constant, negates one condition, or empties one `return`. The
packages are copied to a temporary folder, changed there, and tested by the tests in TESTS. The script prints the
changes that no test detected (survivors) and their number. Whether a survivor matters has to be judged by a person.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = {
    "rewards/parse.py": ["tests/rewards/test_parse_order.py", "rewards/parse.py"],
    "rewards/scores.py": ["tests/rewards/test_order_scores.py", "tests/rewards/test_builtin_rewards.py"],
    "rewards/orders.py": ["tests/rewards/test_order_scores.py", "tests/rewards/test_builtin_rewards.py"],
    "rewards/visual_jigsaw.py": ["tests/rewards/test_builtin_rewards.py", "tests/rewards/test_order_scores.py"],
    "tasks/permutations.py": ["tests/tasks/test_permutations.py", "tests/tasks/test_image.py"],
}
COMPARISONS = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


def mutants(tree: ast.Module) -> Iterator[tuple[int, str, ast.Module]]:
    """Yields the line, the description and the changed tree of every possible change."""
    for number, node in enumerate(ast.walk(tree)):
        for name, change in changes_of(node):
            changed = copy.deepcopy(tree)
            target = list(ast.walk(changed))[number]
            before = ast.unparse(target)
            change(target)
            yield getattr(node, "lineno", 0), f"{name}: {before[:60]} -> {ast.unparse(target)[:60]}", changed


def changes_of(node: ast.AST) -> Iterator[tuple[str, object]]:
    """Yields the name of every change of a node and a function that makes it in place."""
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            yield "comparison", partial(_set_comparison, place, COMPARISONS[type(operator)])
    if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in OPERATORS:
        yield "operator", partial(_set_operator, OPERATORS[type(node.op)])
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "constant", lambda target: setattr(target, "value", not target.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield "constant", lambda target: setattr(target, "value", target.value + 1)
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        yield "condition", lambda target: setattr(target, "test", ast.UnaryOp(ast.Not(), target.test))
    if isinstance(node, ast.Return) and node.value is not None:
        yield "return", lambda target: setattr(target, "value", ast.Constant(None))


def _set_comparison(place: int, operator: type[ast.cmpop], target: ast.Compare) -> None:
    target.ops[place] = operator()


def _set_operator(operator: type[ast.operator], target: ast.BinOp) -> None:
    target.op = operator()


def survives(file: str, changed: ast.Module, folder: Path) -> bool:
    """Returns whether all tests of a file pass with the change."""
    original = (ROOT / file).read_text(encoding="utf-8")
    (folder / file).write_text(ast.unparse(ast.fix_missing_locations(changed)), encoding="utf-8")
    tests = [name for name in TESTS[file] if name.startswith("tests/")]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "not slow",
        "--timeout",
        "60",
    ]
    try:
        done = subprocess.run([*command, *tests], cwd=folder, env=environment, capture_output=True, check=False)
    finally:
        (folder / file).write_text(original, encoding="utf-8")
    return done.returncode == 0


def main() -> int:
    """Prints the survivors; the exit code is 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", choices=sorted(TESTS), metavar="FILE")
    parser.add_argument("--sample", type=int, help="maximum number of changes per file")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    survivors = tried = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in ("rewards", "tasks", "tests", "examples", "docs"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        for file in options.files:
            changes = list(mutants(ast.parse((ROOT / file).read_text(encoding="utf-8"))))
            if options.sample is not None and options.sample < len(changes):
                changes = random.Random(options.seed).sample(changes, options.sample)
            for line, description, changed in sorted(changes, key=lambda entry: entry[0]):
                tried += 1
                if survives(file, changed, folder):
                    survivors += 1
                    print(f"{file}:{line}: {description}", flush=True)
    print(f"{survivors} of {tried} changes survived")
    return min(survivors, 1)


if __name__ == "__main__":
    sys.exit(main())
