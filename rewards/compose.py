"""The rewards of a recipe put together: which, how much each weighs, on which rows, and what if one raises.

In come the entries of a recipe's `rewards:` and `metrics:`; out goes a `Composition`, which scores a batch of
completions and gives TRL its list of reward functions. One entry::

    {use: my_rewards.py:brevity, weight: 0.1, args: {limit: 200}, gate: format, only: [video], on_error: zero}

A component's value is None (no value: TRL leaves it out of the sum) where `only` names other tasks, and where it
raised and `on_error` is `skip`. The total of a row is the weighted sum of the values that it has.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from jigsaw.rewards.completions import completion_text, parsed_rows
from jigsaw.rewards.errors import RewardError, did_you_mean
from jigsaw.rewards.plugin import Plugin, drive, run_to_end
from jigsaw.rewards.registry import load_plugin

OnError = Literal["fail", "zero", "skip"]
Columns = Mapping[str, Any]
Values = list[float | None]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RewardSpec:
    """One entry of a recipe's `rewards:` or `metrics:`.

    Attributes:
        use: registered name, `package.module:name` or `path/to/file.py:name`.
        weight: factor in the total, a finite number.
        args: options of the reward.
        gate: `format`: the value is 0 wherever the completion is not well formed.
        only: names of the tasks that it is for; None: all.
        on_error: what happens if it raises or gives no number: `fail` stops the run, `zero` counts the row as 0, `skip`
            leaves it without a value. The first two words of the log line name it and the row.
    """

    use: str
    weight: float = 1.0
    args: Mapping[str, Any] = field(default_factory=dict)
    gate: Literal["format"] | None = None
    only: Sequence[str] | None = None
    on_error: OnError = "fail"

    def __post_init__(self) -> None:
        where = f"reward {self.use!r}"
        if not isinstance(self.use, str) or not self.use:
            raise RewardError(f"`use` is {self.use!r}; it must name a reward, such as visual_jigsaw")
        number = isinstance(self.weight, int | float) and not isinstance(self.weight, bool)
        if not number or not math.isfinite(self.weight):
            raise RewardError(f"{where}: weight is {self.weight!r}; it must be a finite number")
        if not isinstance(self.args, Mapping) or not all(isinstance(key, str) for key in self.args):
            raise RewardError(f"{where}: args is {self.args!r}; it must be a mapping such as {{discount: 0.2}}")
        if self.gate not in (None, "format"):
            raise RewardError(f"{where}: gate is {self.gate!r}; it must be format, or left out")
        if self.only is not None and (
            isinstance(self.only, str) or not self.only or not all(isinstance(task, str) for task in self.only)
        ):
            raise RewardError(f"{where}: only is {self.only!r}; it must be a list of task names such as [video]")
        if self.on_error not in get_args(OnError):
            raise RewardError(
                f"{where}: on_error is {self.on_error!r}; {did_you_mean(str(self.on_error), get_args(OnError))}"
            )

    @classmethod
    def of(cls, entry: RewardSpec | Mapping[str, Any] | str) -> RewardSpec:
        """A spec from what a recipe holds: a mapping, or a name alone.

        Raises:
            RewardError: a key is unknown or a value is of the wrong kind.

        >>> RewardSpec.of({"use": "format", "weight": 0.1}).weight
        0.1
        >>> RewardSpec.of({"use": "format", "wieght": 0.1})
        Traceback (most recent call last):
        jigsaw.rewards.errors.RewardError: reward 'format': no key 'wieght'; did you mean weight?
        """
        if isinstance(entry, RewardSpec):
            return entry
        if isinstance(entry, str):
            return cls(use=entry)
        if not isinstance(entry, Mapping):
            raise RewardError(f"a reward is {entry!r}; write a name, or a mapping with `use`")
        known = [item.name for item in fields(cls)]
        for key in entry:
            if key not in known:
                raise RewardError(f"reward {entry.get('use')!r}: no key {key!r}; {did_you_mean(str(key), known)}")
        if "use" not in entry:
            raise RewardError(f"a reward without `use`: {dict(entry)!r}; say which one, such as use: visual_jigsaw")
        return cls(**entry)


class Component:
    """One spec with its plug-in loaded: the values of a batch under `only`, `gate` and `on_error`."""

    def __init__(self, spec: RewardSpec, plugin: Plugin, name: str) -> None:
        self.spec = spec
        self.plugin = plugin
        self.name = name

    async def values(self, completions: Sequence[Any], columns: Columns) -> Values:
        """One value or None per row.

        Raises:
            RewardError: the plug-in failed and `on_error` is `fail`, or a column is missing.
        """
        rows = self._rows(len(completions), columns)
        if not rows:
            return [None] * len(completions)
        chosen, their = _take(completions, columns, rows)
        values = await self._guarded(chosen, their)
        if self.spec.gate == "format":
            parsed = parsed_rows(chosen, their["answer"], their.get("answer_style"), their.get("think_prefilled"))
            gated = zip(values, parsed, strict=True)
            values = [value if form.well_formed or value is None else 0.0 for value, form in gated]
        spread: Values = [None] * len(completions)
        for row, value in zip(rows, values, strict=True):
            spread[row] = value
        return spread

    def _rows(self, count: int, columns: Columns) -> Sequence[int]:
        """The rows that it is for."""
        if self.spec.only is None:
            return range(count)
        if "task" not in columns:
            raise RewardError(
                f"reward {self.name} is only for {', '.join(self.spec.only)}, but the rows have no column task"
            )
        return [row for row, task in enumerate(columns["task"]) if task in self.spec.only]

    async def _guarded(self, completions: Sequence[Any], columns: Columns) -> Values:
        """The plug-in's values; row by row if the batch fails, to know the row at fault and keep the others."""
        self.plugin.check_columns(columns)
        try:
            return await self.plugin.values(completions, columns)
        except Exception as error:
            batch_error = error
        quiet = {**columns, "log_extra": lambda *_: None, "log_metric": lambda *_: None}  # logged once already
        values: Values = []
        failures: list[tuple[int, Exception]] = []
        for row in range(len(completions)):
            try:
                values += await self.plugin.values(*_take(completions, quiet, [row]))
            except Exception as error:
                failures.append((row, error))
                values.append(0.0 if self.spec.on_error == "zero" else None)
                if self.spec.on_error == "fail":
                    break
        if failures:
            row, cause = failures[0]
            where = f"row {_name_of(row, columns)}"
        else:  # only the whole batch fails: a wrong length, say
            cause, where = batch_error, f"a batch of {len(completions)} rows from row {_name_of(0, columns)}"
            values = [0.0 if self.spec.on_error == "zero" else None] * len(completions)
        told = f"reward {self.name}, {where}: {self.plugin.blame(cause)}"
        if self.spec.on_error == "fail":
            raise RewardError(f"{told} (on_error: zero or skip would go on)") from cause
        counted = "0" if self.spec.on_error == "zero" else "no value"
        _log.warning(
            "%s (%d of %d rows failed and count as %s)",
            told,
            len(failures) or len(completions),
            len(completions),
            counted,
        )
        return values


class Composition:
    """The rewards and metrics of a recipe, loaded, checked and ready to score.

    Args:
        rewards: entries of `rewards:`; what is optimised.
        metrics: entries of `metrics:`; what is only watched. A weight is refused there, and an error is skipped
            unless the entry says otherwise.

    Raises:
        RewardError: an entry is wrong, or a plug-in is not found or does not keep the contract.

    >>> both = Composition(["visual_jigsaw", {"use": "format", "weight": 0.5}], ["place_accuracy"])
    >>> scores = both.score(["<think>a</think><answer>2, 1, 3</answer>"], {"answer": [[2, 1, 3]]})
    >>> scores, both.total(scores)
    ({'visual_jigsaw': [1.2], 'format': [1.0]}, [1.7])
    """

    def __init__(
        self,
        rewards: Sequence[RewardSpec | Mapping[str, Any] | str],
        metrics: Sequence[RewardSpec | Mapping[str, Any] | str] = (),
    ) -> None:
        taken: set[str] = set()
        self.tokenize: Callable[[str], Sequence[int]] | None = None
        """Makes the column `completion_ids` of completions that come as text alone, where a reward counts tokens."""
        self.rewards = [_component(RewardSpec.of(entry), "reward", taken) for entry in rewards]
        taken.clear()  # a reward may be watched under its own name: they are reported apart
        self.metrics = [_component(_watched(entry), "metric", taken) for entry in metrics]

    @property
    def names(self) -> list[str]:
        """The rewards' names, unique, in the order of the recipe."""
        return [component.name for component in self.rewards]

    @property
    def weights(self) -> list[float]:
        """The rewards' weights, in the order of the recipe."""
        return [component.spec.weight for component in self.rewards]

    @property
    def columns(self) -> list[str]:
        """Every column that a component names; the rows must have those that it cannot do without."""
        return sorted({name for part in (*self.rewards, *self.metrics) for name in part.plugin.reads})

    def score(self, completions: Sequence[Any], columns: Columns) -> dict[str, Values]:
        """The rewards of a batch: component name -> one value or None per row, not weighted.

        Args:
            completions: strings or message lists.
            columns: the columns of the rows, lists as long as `completions`.

        Raises:
            RewardError: a component failed and its `on_error` is `fail`, or a column is missing.
        """
        return self._all(self.rewards, completions, columns)

    def measure(self, completions: Sequence[Any], columns: Columns) -> dict[str, Values]:
        """The metrics of a batch, as `score`."""
        return self._all(self.metrics, completions, columns)

    def total(self, scores: Mapping[str, Values]) -> Values:
        """The weighted sum of each row over the components that have a value for it; None where none has."""
        totals: Values = []
        for row in zip(*(scores[name] for name in self.names), strict=True):
            terms = [weight * value for weight, value in zip(self.weights, row, strict=True) if value is not None]
            totals.append(math.fsum(terms) if terms else None)
        return totals

    def trl_functions(self) -> tuple[list[Callable[..., Any]], list[float]]:
        """What TRL's GRPO trainer takes as `reward_funcs` and `reward_weights`.

        Returns:
            Functions, each with a unique `__name__`, async where the plug-in is; and weights.
        """
        return [_trl_function(component) for component in self.rewards], self.weights

    def _all(self, components: Sequence[Component], completions: Sequence[Any], columns: Columns) -> dict[str, Values]:
        if self.tokenize is not None and "completion_ids" in self.columns and "completion_ids" not in columns:
            columns = {**columns, "completion_ids": [self.tokenize(completion_text(each)) for each in completions]}
        return {
            part.name: (run_to_end if part.plugin.is_async else drive)(part.values(completions, columns))
            for part in components
        }


def _trl_function(component: Component) -> Callable[..., Any]:
    def reward(completions: Sequence[Any], **columns: Any) -> Values:
        return drive(component.values(completions, columns))

    async def async_reward(completions: Sequence[Any], **columns: Any) -> Values:
        return await component.values(completions, columns)

    function: Callable[..., Any] = async_reward if component.plugin.is_async else reward
    function.__name__ = function.__qualname__ = component.name
    return function


def _watched(entry: RewardSpec | Mapping[str, Any] | str) -> RewardSpec:
    """The spec of a metric: without a weight, and skipping what it cannot score unless it says otherwise."""
    if isinstance(entry, Mapping):
        if "weight" in entry:
            raise RewardError(
                f"metric {entry.get('use')!r} has a weight; metrics are only watched, drop it or use `rewards:`"
            )
        entry = {"on_error": "skip", **entry}
    return RewardSpec(use=entry, on_error="skip") if isinstance(entry, str) else RewardSpec.of(entry)


def _component(spec: RewardSpec, kind: Literal["reward", "metric"], taken: set[str]) -> Component:
    """A spec with its plug-in, under a name that no other component has: `format`, `format_2`, .."""
    plugin = load_plugin(spec.use, spec.args, kind=kind)
    name, count = plugin.name, 1
    while name in taken:
        count += 1
        name = f"{plugin.name}_{count}"
    taken.add(name)
    return Component(spec, plugin, name)


def _take(completions: Sequence[Any], columns: Columns, rows: Sequence[int]) -> tuple[Sequence[Any], dict[str, Any]]:
    """Some rows of a batch. Whatever is no list of one value per row (the trainer's state, functions) stays whole."""
    count = len(completions)
    if len(rows) == count:
        return completions, dict(columns)
    taken = {
        name: [column[row] for row in rows] if isinstance(column, list | tuple) and len(column) == count else column
        for name, column in columns.items()
    }
    if "log_extra" in columns:  # TRL expects one value per row of the whole batch

        def log_extra(name: str, values: Sequence[Any]) -> None:
            spread: list[Any] = [None] * count
            for row, value in zip(rows, values, strict=True):
                spread[row] = value
            columns["log_extra"](name, spread)

        taken["log_extra"] = log_extra
    return [completions[row] for row in rows], taken


def _name_of(row: int, columns: Columns) -> str:
    """The id of a row, or its position if rows have none."""
    return str(columns["id"][row]) if "id" in columns else f"{row} of the batch"
