"""One entry of a recipe's `rewards:` or `metrics:`, validated when it is created.

In: a mapping of the recipe, or a name. Out: a frozen `RewardSpec`::

    {use: my_rewards.py:brevity, weight: 0.1, args: {limit: 200}, gate: format, only: [video], on_error: zero}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from jigsaw.errors import did_you_mean
from jigsaw.rewards.errors import RewardError

OnError = Literal["fail", "zero", "skip"]


@dataclass(frozen=True, kw_only=True)
class RewardSpec:
    """One entry of a recipe's `rewards:` or `metrics:`.

    Attributes:
        use: registered name, `package.module:name` or `path/to/file.py:name`.
        weight: factor in the total, a finite number.
        args: options of the reward.
        gate: `format`: the value is 0 where the completion is not well formed; `agreement`: the value is 0 where the
            last order or option that the reasoning names differs from the answer.
        only: names of the tasks that the reward applies to; None: all.
        on_error: what happens if the reward raises or returns no number: `fail` stops the run, `zero` counts the row as
            0, `skip` leaves it without a value. The log line names the reward and the row.
    """

    use: str
    weight: float = 1.0
    args: Mapping[str, Any] = field(default_factory=dict)
    gate: Literal["format", "agreement"] | None = None
    only: Sequence[str] | None = None
    on_error: OnError = "fail"

    def __post_init__(self) -> None:
        number = isinstance(self.weight, int | float) and not isinstance(self.weight, bool)
        tasks = self.only
        listed = tasks is None or (
            not isinstance(tasks, str) and tasks and all(isinstance(each, str) for each in tasks)
        )
        near = did_you_mean(str(self.on_error), get_args(OnError))
        for right, problem in (
            (isinstance(self.use, str) and self.use, "`use` is {use!r}; it must name a reward, such as visual_jigsaw"),
            (number and math.isfinite(self.weight), "weight is {weight!r}; it must be a finite number"),
            (
                isinstance(self.args, Mapping) and all(isinstance(key, str) for key in self.args),
                "args is {args!r}; it must be a mapping such as {{discount: 0.2}}",
            ),
            (
                self.gate in (None, "format", "agreement"),
                "gate is {gate!r}; it must be format or agreement, or left out",
            ),
            (listed, "only is {only!r}; it must be a list of task names such as [video]"),
            (self.on_error in get_args(OnError), f"on_error is {{on_error!r}}; {near}"),
        ):
            if not right:
                raise RewardError(f"reward {self.use!r}: {problem.format(**vars(self))}")

    @classmethod
    def of(cls, entry: RewardSpec | Mapping[str, Any] | str) -> RewardSpec:
        """A spec from an entry of a recipe: a mapping, or only a name.

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
        keys = [item.name for item in fields(cls)]
        for key in entry:
            if key not in keys:
                raise RewardError(f"reward {entry.get('use')!r}: no key {key!r}; {did_you_mean(str(key), keys)}")
        if "use" not in entry:
            raise RewardError(f"a reward without `use`: {dict(entry)!r}; say which one, such as use: visual_jigsaw")
        return cls(**entry)
