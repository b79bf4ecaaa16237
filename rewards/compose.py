"""The combined rewards of a recipe: weights, the rows that each applies to, gates and error handling.

In: the entries of a recipe's `rewards:` and `metrics:`. Out: a `Composition`, which scores a batch of completions and
provides TRL's list of reward functions. A component has no value on a row (None, which TRL leaves out of the sum) if
`only` names other tasks, or if it raised and `on_error` is `skip`. The total of a row is the weighted sum of its
values.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jigsaw.rewards.agreement import agreement
from jigsaw.rewards.answers.rows import parsed_answers
from jigsaw.rewards.completions import Columns, completion_text, name_of, rows_of
from jigsaw.rewards.coverage import check_coverage, covered_rows
from jigsaw.rewards.errors import RewardError
from jigsaw.rewards.plugin import Kind, Plugin
from jigsaw.rewards.registry import load_plugin
from jigsaw.rewards.spec import RewardSpec
from jigsaw.rewards.synthetic import puzzle_columns
from jigsaw.rewards.waiting import as_function, drive, run_to_end

Values = list[float | None]
_log = logging.getLogger(__name__)

GATES: Mapping[str, Callable[[Sequence[Any], Columns], list[bool]]] = {
    "format": lambda completions, columns: [each.well_formed for each in parsed_answers(completions, columns)],
    "agreement": lambda completions, columns: [value != 0.0 for value in agreement(completions, **columns)],
}
"""Name of a gate -> whether each completion of a batch passes it. The values of those that do not become 0."""


@dataclass(frozen=True)
class Component:
    """One spec with its loaded plug-in; applies `only`, `gate` and `on_error` to the values of a batch."""

    spec: RewardSpec
    plugin: Plugin
    name: str
    is_metric: bool = False

    async def values(self, completions: Sequence[Any], columns: Columns) -> Values:
        """One value or None per row.

        Raises:
            RewardError: the plug-in failed and `on_error` is `fail`, or a column is missing.
        """
        rows = covered_rows(self, len(completions), columns)
        spread: Values = [None] * len(completions)
        if not rows:
            return spread
        chosen, their = rows_of(completions, columns, rows)
        values = await self._guarded(chosen, their)
        if self.spec.gate is not None:
            passed = GATES[self.spec.gate](chosen, their)
            values = [value if passes or value is None else 0.0 for value, passes in zip(values, passed, strict=True)]
        for row, value in zip(rows, values, strict=True):
            spread[row] = value
        return spread

    async def _guarded(self, completions: Sequence[Any], columns: Columns) -> Values:
        """The plug-in's values; row by row if the batch fails, to find the failing row and keep the others."""
        self.plugin.check_columns(columns)
        try:
            return await self.plugin.values(completions, columns)
        except Exception as error:
            batch_error = error
        quiet = {**columns, "log_extra": lambda *_: None, "log_metric": lambda *_: None}  # logged once already
        instead = 0.0 if self.spec.on_error == "zero" else None
        values: Values = []
        failures: list[tuple[int, Exception]] = []
        for row in range(len(completions)):
            try:
                values += await self.plugin.values(*rows_of(completions, quiet, [row]))
            except Exception as error:
                failures.append((row, error))
                values.append(instead)
                if self.spec.on_error == "fail":
                    break
        if failures:
            cause, where = failures[0][1], f"row {name_of(failures[0][0], columns)}"
        else:  # only the batch as a whole fails, for example with a wrong number of values
            cause, where = batch_error, f"a batch of {len(completions)} rows from row {name_of(0, columns)}"
            values = [instead] * len(completions)
        problem = f"reward {self.name}, {where}: {self.plugin.blame(cause)}"
        if self.spec.on_error == "fail":
            raise RewardError(f"{problem} (on_error: zero or skip would continue)") from cause
        share, counted = f"{len(failures) or len(values)} of {len(values)}", "no value" if instead is None else "0"
        _log.warning("%s (%s rows failed and count as %s)", problem, share, counted)
        return values


class Composition:
    """The loaded rewards and metrics of a recipe.

    Args:
        rewards: entries of `rewards:`, which are optimised.
        metrics: entries of `metrics:`, which are only logged. They have no weight, and an error of one is skipped
            unless the entry sets `on_error`.

    Raises:
        RewardError: an entry is wrong, or a plug-in is not found or breaks the contract.

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
        """Tokenizes completions that have no column `completion_ids`, for rewards that count tokens."""
        self.rewards = [_component(RewardSpec.of(entry), "reward", taken) for entry in rewards]
        taken.clear()  # a metric may have the name of a reward, because they are logged separately
        self.metrics = [_component(_metric_spec(entry), "metric", taken) for entry in metrics]

    @property
    def names(self) -> list[str]:
        """The unique names of the rewards, in the order of the recipe."""
        return [component.name for component in self.rewards]

    @property
    def weights(self) -> list[float]:
        """The rewards' weights, in the order of the recipe."""
        return [component.spec.weight for component in self.rewards]

    @property
    def columns(self) -> list[str]:
        """All columns that a component names; some of them may be optional."""
        return sorted({name for part in (*self.rewards, *self.metrics) for name in part.plugin.reads})

    def require_columns(self) -> None:
        """Refuse components that require a column which puzzles do not have, before anything is generated.

        Raises:
            RewardError: names the component's file, the column, and the nearest one that rows have.
        """
        available = dict.fromkeys(puzzle_columns())
        for part in (*self.rewards, *self.metrics):
            part.plugin.check_columns(available)

    def check_kinds(self, kinds: Mapping[tuple[str, str], str]) -> None:
        """Refuse rows that no reward can score, before anything is generated.

        Args:
            kinds: task and answer kind of the rows -> the id of one such row.

        Raises:
            RewardError: a reward for orders applies to a row of another kind, or no reward applies to a task.
        """
        check_coverage(self.rewards, kinds)

    def score(self, completions: Sequence[Any], columns: Columns) -> dict[str, Values]:
        """The unweighted rewards of a batch: component name -> one value or None per row.

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
        """The weighted sum of each row's values; None for a row without any value."""
        totals: Values = []
        for row in zip(*(scores[name] for name in self.names), strict=True):
            terms = [weight * value for weight, value in zip(self.weights, row, strict=True) if value is not None]
            totals.append(math.fsum(terms) if terms else None)
        return totals

    def trl_functions(self) -> tuple[list[Callable[..., Any]], list[float]]:
        """TRL's `reward_funcs`, each with a unique `__name__`, async where the plug-in is, and `reward_weights`."""
        return [
            as_function(part.values, part.name, is_async=part.plugin.is_async) for part in self.rewards
        ], self.weights

    def _all(self, components: Sequence[Component], completions: Sequence[Any], columns: Columns) -> dict[str, Values]:
        if self.tokenize is not None and "completion_ids" in self.columns and "completion_ids" not in columns:
            columns = {**columns, "completion_ids": [self.tokenize(completion_text(each)) for each in completions]}
        return {
            part.name: (run_to_end if part.plugin.is_async else drive)(part.values(completions, columns))
            for part in components
        }


def _metric_spec(entry: RewardSpec | Mapping[str, Any] | str) -> RewardSpec:
    """The spec of a metric: it has no weight, and `on_error` is `skip` by default."""
    if isinstance(entry, Mapping):
        if "weight" in entry:
            raise RewardError(
                f"metric {entry.get('use')!r} has a weight, but metrics are only logged; remove it or use `rewards:`"
            )
        entry = {"on_error": "skip", **entry}
    return RewardSpec(use=entry, on_error="skip") if isinstance(entry, str) else RewardSpec.of(entry)


def _component(spec: RewardSpec, kind: Kind, taken: set[str]) -> Component:
    """A spec with its plug-in, under a unique name: `format`, `format_2`, ..."""
    plugin = load_plugin(spec.use, spec.args, kind=kind)
    name, count = plugin.name, 1
    while name in taken:
        count += 1
        name = f"{plugin.name}_{count}"
    taken.add(name)
    return Component(spec, plugin, name, is_metric=kind == "metric")
