"""Docstrings of classes and functions, which are texts for users here: also under `python -OO`, which drops them.

In: a class, a function, or an object that is called like one. Out: its docstring, read from its source where Python has
dropped it (`sys.flags.optimize` is 2).
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from functools import partial
from typing import Any


def docstring_of(found: Any) -> str:
    """The docstring of a class or function, without its indentation; empty where it has none.

    >>> docstring_of(docstring_of).partition(",")[0]
    'The docstring of a class or function'
    """
    inner = found.func if isinstance(found, partial) else found
    if inner.__doc__ or sys.flags.optimize < 2:
        return inspect.cleandoc(inner.__doc__ or "")
    try:
        tree = ast.parse(
            textwrap.dedent(
                inspect.getsource(inner if inspect.isclass(inner) or inspect.isroutine(inner) else type(inner))
            )
        )
    except (OSError, TypeError, SyntaxError):
        return ""
    definition = tree.body[0] if tree.body else None
    if isinstance(definition, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return ast.get_docstring(definition) or ""
    return ""


def attributes_of(model: type) -> dict[str, str]:
    """Meanings by key, out of the `Attributes:` of a class and its bases; `a, b: ...` describes both.

    Values are said as recipes write them: `null` where Python says None.
    """
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        text = docstring_of(base).partition("Attributes:\n")[2]
        for keys, meaning in re.findall(r"^    ([\w, ]+): ((?:.*\n?)(?:        .*\n?)*)", text, re.MULTILINE):
            found |= dict.fromkeys(keys.split(", "), re.sub(r"\bNone\b", "null", " ".join(meaning.split())))
    return found
