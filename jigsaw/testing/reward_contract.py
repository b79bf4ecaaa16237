"""The contract of a reward as properties that are checked on synthetic completions.

In: a reward's name or spec and its arguments. Out: findings. A reward is loaded as in a recipe, with a dry call, and
then called on the worst completions that models write. A reward that pays for the order, which is recognised by its
values, has two more properties: broken orders earn nothing, and the numbering of the pieces does not matter.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

from jigsaw.rewards import ANSWER_STYLES, format_order, get_metric, synthetic_columns
from jigsaw.rewards import check_reward as dry_call
from jigsaw.rewards.errors import RewardError, nearest_column
from jigsaw.rewards.registry import find
from jigsaw.tasks import shown_of
from jigsaw.testing.findings import ContractError, Finding, NotChecked, Unknown, findings_of, require_all

K = 5
THINKING = "The sky is on top."
Values = list[float | None]

HOSTILE = (
    "",
    " \n\t",
    "\x00\x1b[31m",
    "\ud800 half a character, \u202e turned round, \U0001f9e9",
    "<think>",
    "</answer><answer></think>",
    "<think></think><answer></answer>",
    "<think>a</think><answer>1, 2, 3, 4, 5</answer><answer>5, 4, 3, 2, 1</answer>",
    "<think>a</think><answer>1, 1, 1, 1, 1</answer>",
    "<think>a</think><answer>0, -1, 9, 2.5, 1e9</answer>",
    f"<think>a</think><answer>{'9' * 5000}</answer>",
    f"<think>a</think><answer>{', '.join(map(str, range(5000)))}</answer>",
    "<think>a</think><answer>one, two, three</answer>",
    "\\boxed{\\boxed{1, 2}",
    "1,2,3,4,5" * 2000,
    "<think>" * 5000 + "</answer>" * 5000,
    "the same line again and again and again\n" * 500,
)
"""The worst completions that models write, and text that crashes parsers of numbers and tags."""


@dataclass
class _Case:
    use: str
    args: Mapping[str, Any]
    columns: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.info = dry_call(self.use, self.args)
        self.reward = get_metric(self.use, **self.args)

    def values(
        self, texts: Sequence[Any], answers: Sequence[Sequence[int]] | None = None, style: str = "think"
    ) -> Values:
        """The reward of every text; by default all have the answer `RIGHT`."""
        orders = [list(answer) for answer in answers or [RIGHT] * len(texts)]
        words = [text if isinstance(text, str) else text[0]["content"] for text in texts]
        columns = synthetic_columns(words, orders, style)
        grids = [{"grid": [1, K], "shown": list(shown_of(order))} for order in orders]
        columns |= {"geometry": [json.dumps(grid) for grid in grids]}
        columns |= {name: [value] * len(texts) for name, value in self.columns.items()}
        if missing := [name for name in self.info.columns if name not in columns]:
            raise NotChecked(
                f"no puzzle has a column `{missing[0]}` ({nearest_column(missing[0], columns)}); "
                f"if your rows have it, add --column {missing[0]}=VALUE"
            )
        if inspect.iscoroutinefunction(self.reward):
            return list(asyncio.run(self.reward(texts, **columns)))
        return list(self.reward(texts, **columns))

    @cached_property
    def repeatable(self) -> bool:
        """Whether the same completions earn the same again; if not, values cannot be compared."""
        return self.values(_FORMED) == self.values(_FORMED)

    @cached_property
    def pays_for_order(self) -> bool:
        """Whether the right order always earns more than a wrong one in the same form."""
        wrong = _orders(4)
        values = [_number(value) for value in self.values([format_order(order) for order in (RIGHT, *wrong)])]
        return all(values[0] > value for value in values[1:])


RIGHT = (2, 4, 1, 3, 5)


def _orders(count: int) -> list[tuple[int, ...]]:
    """Wrong orders of K pieces, the same every time."""
    rng = Random(0)
    drawn = (tuple(rng.sample(RIGHT, K)) for _ in range(100))
    return [order for order in dict.fromkeys(drawn) if order != RIGHT][:count]


_FORMED = [*(format_order(order) for order in (RIGHT, *_orders(3))), ""]
"""The right order, three wrong ones, and an empty text."""


def _number(value: float | None) -> float:
    """A value as a number; no value counts as 0."""
    return 0.0 if value is None else value


def assert_reward(use: str, *, columns: Mapping[str, Any] | None = None, **args: Any) -> None:
    """Raise if a reward breaks its contract; the arguments are those of `check_reward`.

    Raises:
        ContractError: has one line per property that does not hold.
    """
    require_all(use, check_reward(use, columns=columns, **args))


def check_reward(use: str, *, columns: Mapping[str, Any] | None = None, **args: Any) -> list[Finding]:
    """Check every property of the contract.

    Args:
        use: a registered name, `package.module:name` or `path/to/file.py:name`; a reward or a metric.
        columns: a value for each column that the reward reads and puzzles do not have.
        args: its options.

    Raises:
        RewardError: it is not found, takes other arguments, or fails its dry call.
    """
    found = find(use)
    _require_settable_options(use, found, columns or {})
    return findings_of(
        _Case(use, args, columns or {}), _PROPERTIES, inspect.unwrap(found) if callable(found) else found
    )


def _require_settable_options(use: str, found: object, columns: Mapping[str, Any]) -> None:
    """Refuse a parameter with a default that is read as a column although it looks like an option.

    A default of None marks a column that is optional.
    """
    available = synthetic_columns([""], [RIGHT], "think") | dict(columns)
    parameters = inspect.signature(found).parameters if callable(found) else {}
    for name, parameter in parameters.items() if "completions" in parameters else ():
        optional = parameter.default not in (None, parameter.empty)
        if optional and parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name not in available:
            raise RewardError(
                f"{use}: {name}={parameter.default!r} is read as a column, which puzzles do not have, so no recipe can "
                f"set it; put `*` before {name} to make it an option"
            )


def _scores_any_text(case: _Case) -> None:
    try:
        case.values(HOSTILE)
    except (Unknown, NotChecked):
        raise
    except Exception:
        for text in HOSTILE:  # which one?
            try:
                case.values([text])
            except Exception as error:
                shown = repr(text if len(text) <= 60 else f"{text[:57]}...")
                raise ContractError(f"{type(error).__name__} on {shown}: {error}".partition("\n")[0]) from error
        raise


def _reads_both_forms(case: _Case) -> None:
    _require_repeatable(case)
    as_messages = [[{"role": "assistant", "content": text}] for text in _FORMED]
    strings, messages = case.values(_FORMED), case.values(as_messages)
    if strings != messages:
        raise ContractError(f"strings earn {strings}, but messages with the same text {messages}; use completion_text")


def _gives_the_same_again(case: _Case) -> None:
    if not case.repeatable:
        raise Unknown("the same completions earn different values, so a run cannot be repeated")


def _scores_rows_alone(case: _Case) -> None:
    _require_repeatable(case)
    together = case.values(_FORMED)
    alone = [case.values([text])[0] for text in _FORMED]
    turned = case.values(_FORMED[::-1])[::-1]
    if not together == alone == turned:
        raise Unknown(f"a value depends on the other rows of the batch: {together} together, {alone} alone")


def _pays_nothing_for_broken_orders(case: _Case) -> None:
    _require_order(case)
    for style in _styles(case):
        opening = "" if style == "direct" else f"<think>{THINKING}</think>"
        before, after = {"think": ("<answer>", "</answer>"), "boxed": ("\\boxed{", "}"), "direct": ("", "")}[style]
        floor, *earned = map(
            _number, case.values([f"{opening}{before}{text}{after}" for text in ("", *_BROKEN.values())], style=style)
        )
        for name, value in zip(_BROKEN, earned, strict=True):
            if value > floor:
                raise ContractError(f"style {style}: {name} earn {value:g}, an empty answer {floor:g}")


_RIGHT_TEXT = ", ".join(map(str, RIGHT))
_BROKEN = {
    "duplicates": f"{RIGHT[0]}, {_RIGHT_TEXT.partition(', ')[2].replace('5', str(RIGHT[0]))}",
    "numbers out of range": _RIGHT_TEXT.replace("5", "9"),
    "too few numbers": _RIGHT_TEXT[:-3],
    "all numbers and one more": f"{_RIGHT_TEXT}, {K + 1}",
    "the right numbers among words": f"{_RIGHT_TEXT} or perhaps {_RIGHT_TEXT}",
    "numbers without end": ", ".join(map(str, range(1, 100))),
}


def _ignores_numbering(case: _Case) -> None:
    """Piece numbers are arbitrary: if they change in order and answer alike, the value must not change."""
    _require_order(case)
    for order in _orders(3):
        for names in (*_orders(3), (5, 4, 3, 2, 1)):
            renamed = [[names[piece - 1] for piece in pieces] for pieces in (order, RIGHT)]
            one = case.values([format_order(order)], [RIGHT])
            other = case.values([format_order(renamed[0])], [renamed[1]])
            if abs(_number(one[0]) - _number(other[0])) > 1e-9:
                raise ContractError(
                    f"{list(order)} for {list(RIGHT)} earns {one[0]}; with other piece numbers, "
                    f"{renamed[0]} for {renamed[1]}, {other[0]}"
                )


def _require_repeatable(case: _Case) -> None:
    if not case.repeatable:
        raise Unknown("the values differ each time and cannot be compared")


def _require_order(case: _Case) -> None:
    _require_repeatable(case)
    if not case.pays_for_order:
        raise Unknown("it does not pay for the order")


def _styles(case: _Case) -> Sequence[str]:
    """The styles that the reward supports: all if it pays for the right order in each, else only `think`."""
    paid = [_number(case.values([format_order(RIGHT, style)], style=style)[0]) > 0 for style in ANSWER_STYLES]
    return ANSWER_STYLES if all(paid) else ("think",)


_PROPERTIES = {
    "any text earns a number or nothing": _scores_any_text,
    "strings and messages earn the same": _reads_both_forms,
    "the same completions earn the same again": _gives_the_same_again,
    "a row earns the same with any other rows": _scores_rows_alone,
    "broken orders earn nothing for the order": _pays_nothing_for_broken_orders,
    "the numbering of the pieces does not matter": _ignores_numbering,
}
