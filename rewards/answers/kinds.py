"""Lookup of an answer kind by its name, with the arguments in a row.

A row has its kind in `answer_kind` (missing or null: `order`) and the kind's arguments in `answer_args`, a mapping or
its JSON text. Orders take their arguments from `answer` and `classes`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from typing import Any

from jigsaw.errors import did_you_mean
from jigsaw.rewards.answers.base import AnswerKind
from jigsaw.rewards.answers.box import Box
from jigsaw.rewards.answers.choice import Choice
from jigsaw.rewards.answers.interval import Interval
from jigsaw.rewards.answers.math import Math
from jigsaw.rewards.answers.number import Number
from jigsaw.rewards.answers.order import Order
from jigsaw.rewards.answers.text import Text
from jigsaw.rewards.errors import RewardError

_KINDS: Mapping[str, type[AnswerKind]] = {
    kind.name: kind for kind in (Order, Choice, Number, Interval, Box, Text, Math)
}
ANSWER_KINDS: tuple[str, ...] = tuple(_KINDS)
ORDER, CHOICE = Order.name, Choice.name


def kind_of(name: str, args: Mapping[str, Any] | str | None = None) -> AnswerKind:
    """The answer kind of that name with its arguments.

    Args:
        name: one of `ANSWER_KINDS`.
        args: arguments of the kind, as a mapping or as JSON text.

    Raises:
        RewardError: the name or an argument is unknown, missing or out of range.

    >>> kind_of("number", {"tolerance": 0.5})
    Number(tolerance=0.5, relative=0.0, unit='')
    >>> kind_of("choise")
    Traceback (most recent call last):
    jigsaw.rewards.errors.RewardError: answer kind 'choise' is unknown; did you mean choice?
    """
    text = args if isinstance(args, str) else json.dumps(dict(args or {}), sort_keys=True)
    return _kind(name, text)


def args_of(args: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """The arguments of a kind as a mapping, from a mapping or its JSON text.

    >>> args_of('{"tolerance": 0.5}'), args_of(None)
    ({'tolerance': 0.5}, {})
    """
    return dict(json.loads(args) if isinstance(args, str) else args or {})


@lru_cache(maxsize=4096)
def _kind(name: str, text: str) -> AnswerKind:
    kind = _KINDS.get(name)
    if kind is None:
        raise RewardError(f"answer kind {name!r} is unknown; {did_you_mean(str(name), ANSWER_KINDS)}")
    try:
        args = json.loads(text)
    except ValueError:
        args = None
    if not isinstance(args, dict):
        raise RewardError(f"answer_args of kind {name} is {text[:60]!r}; it must be a mapping")
    names = [item.name for item in fields(kind)]  # type: ignore[arg-type]  # every kind is a dataclass
    for key in args:
        if key not in names:
            raise RewardError(f"answer kind {name} has no argument {key!r}; {did_you_mean(key, names)}")
    needed = [item.name for item in fields(kind) if item.default is MISSING and item.name not in args]  # type: ignore[arg-type]
    if needed:
        raise RewardError(f"answer kind {name} needs {' and '.join(needed)} in its answer_args")
    return kind(**{key: _frozen(value) for key, value in args.items()})


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value


def kind_of_row(row: Mapping[str, Any], **order_options: Any) -> AnswerKind:
    """The answer kind of a row.

    Args:
        row: has `answer`, and optionally `answer_kind`, `answer_args` and `classes`.
        order_options: partial credit of orders: `discount`, `min_pieces_for_partial`.

    Raises:
        RewardError: as for `kind_of`.

    >>> kind_of_row({"answer": [2, 1]}).name
    'order'
    """
    name = row.get("answer_kind") or Order.name
    if name != Order.name:
        return kind_of(name, row.get("answer_args"))
    answer, classes = row["answer"], row.get("classes")
    count = len(answer) if isinstance(answer, list | tuple) else 0
    if not count:
        raise RewardError(
            f"answer {answer!r} is not an order; set the row's answer_kind to one of {', '.join(ANSWER_KINDS)}"
        )
    return Order(num_pieces=count, classes=None if classes is None else tuple(classes), **order_options)


def pieces_of_answer(answer: Any, kind: str | None, args: Mapping[str, Any] | None) -> int:
    """The number of pieces of an order, the number of options of a choice, else 1.

    >>> pieces_of_answer([2, 3, 1], None, None), pieces_of_answer("A", "choice", {"options": ["A", "B"]})
    (3, 2)
    """
    if kind in (None, ORDER):
        return len(answer)
    return len((args or {}).get("options", ())) if kind == CHOICE else 1


def written(answer: Any) -> str:
    """A right answer of any kind as readable text.

    >>> written([2, 3, 1]), written("B"), written(0.5)
    ('2, 3, 1', 'B', '0.5')
    """
    return ", ".join(map(str, answer)) if isinstance(answer, list | tuple) else str(answer)


def check_answer_of(row: Mapping[str, Any]) -> AnswerKind:
    """The answer kind of a row, after checking that the row's answer is of that kind.

    Raises:
        RewardError: the kind, its arguments or the answer is wrong.
    """
    kind = kind_of_row(row)
    kind.check(row["answer"])
    return kind
