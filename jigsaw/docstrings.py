"""Docstrings of classes and functions that are shown to users, also under `python -OO`, which drops docstrings.

In: a class, a function or a callable object. Out: its docstring; if Python has dropped it (`sys.flags.optimize` is 2),
it is read from the source.
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
    """The docstring of a class or function, without its indentation; empty if it has none.

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
    """Attribute -> description, from the `Attributes:` of a class and its bases; `a, b: ...` describes both.

    `None` is replaced by `null`, as recipes write it.
    """
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        text = docstring_of(base).partition("Attributes:\n")[2]
        for keys, meaning in re.findall(r"^    ([\w, ]+): ((?:.*\n?)(?:        .*\n?)*)", text, re.MULTILINE):
            found |= dict.fromkeys(keys.split(", "), re.sub(r"\bNone\b", "null", " ".join(meaning.split())))
    return found
