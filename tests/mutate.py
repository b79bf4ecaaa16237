"""Does a test fail when the code is wrong? Small changes, one at a time, each of which some test should notice.

    python tests/mutate.py FILE ... [--sample N] [--seed S]

A change is one comparison turned, one operator or constant replaced, one condition negated, one `return` emptied. The
packages are copied, changed there, and tested by the tests in TESTS. Printed are the changes that no test noticed
(survivors) and their share; survivors that change nothing that matters are a person's to judge.
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
    """Line, what was changed, and the changed tree, for every change that is made."""
    for number, node in enumerate(ast.walk(tree)):
        for name, change in changes_of(node):
            changed = copy.deepcopy(tree)
            twin = list(ast.walk(changed))[number]
            before = ast.unparse(twin)
            change(twin)
            yield getattr(node, "lineno", 0), f"{name}: {before[:60]} -> {ast.unparse(twin)[:60]}", changed


def changes_of(node: ast.AST) -> Iterator[tuple[str, object]]:
    """The ways in which a node can be made wrong, each a function that does it in place."""
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            yield "comparison", partial(_compare_otherwise, place, COMPARISONS[type(operator)])
    if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in OPERATORS:
        yield "operator", partial(_operate_otherwise, OPERATORS[type(node.op)])
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "constant", lambda twin: setattr(twin, "value", not twin.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield "constant", lambda twin: setattr(twin, "value", twin.value + 1)
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        yield "condition", lambda twin: setattr(twin, "test", ast.UnaryOp(ast.Not(), twin.test))
    if isinstance(node, ast.Return) and node.value is not None:
        yield "return", lambda twin: setattr(twin, "value", ast.Constant(None))


def _compare_otherwise(place: int, operator: type[ast.cmpop], twin: ast.Compare) -> None:
    twin.ops[place] = operator()


def _operate_otherwise(operator: type[ast.operator], twin: ast.BinOp) -> None:
    twin.op = operator()


def survives(file: str, changed: ast.Module, folder: Path) -> bool:
    """Whether all tests of a file pass with the change."""
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
    """Print survivors; the exit code is their number."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", choices=sorted(TESTS), metavar="FILE")
    parser.add_argument("--sample", type=int, help="at most so many changes of each file")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    survivors = tried = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in ("rewards", "tasks", "tests", "examples", "docs"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        for file in options.files:
            found = list(mutants(ast.parse((ROOT / file).read_text(encoding="utf-8"))))
            if options.sample is not None and options.sample < len(found):
                found = random.Random(options.seed).sample(found, options.sample)
            for line, told, changed in sorted(found, key=lambda entry: entry[0]):
                tried += 1
                if survives(file, changed, folder):
                    survivors += 1
                    print(f"{file}:{line}: {told}", flush=True)
    print(f"{survivors} of {tried} changes survived")
    return min(survivors, 1)


if __name__ == "__main__":
    sys.exit(main())
