"""The stability watch: an unstable run is warned of once with the metric, and stopped if the recipe says so."""

from __future__ import annotations

import json
import warnings
from types import SimpleNamespace

import pytest

from jigsaw.config.schema import StabilitySection
from jigsaw.errors import JigsawError
from jigsaw.training.stability import StabilityWatch, UnstableRunWarning


def feed(watch: StabilityWatch, count: int, *, entropy=1.0, length=100.0, truncated=0.0) -> None:
    for step in range(count):
        logs = {
            "entropy": entropy,
            "completions/mean_length": length,
            "completions/clipped_ratio": truncated,
        }
        watch.on_log(None, SimpleNamespace(global_step=step), None, logs)


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"entropy": 0.01}, r"entropy 0.01 against 1 at first for 3 steps.*entropy_low=0.02.*epsilon_high"),
        ({"entropy": 4.0}, "entropy_high"),
        ({"length": 5.0}, "mean completion length 5 against 100 at first.*length_low"),
        ({"length": 600.0}, "length_high"),
        ({"truncated": 0.7}, "70% of the completions were cut off.*mask_truncated_completions"),
    ],
)
def test_a_metric_beyond_its_bound_is_warned_of_once(figures, message):
    watch = StabilityWatch(StabilitySection(patience=3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        feed(watch, 5)
        feed(watch, 2, **figures)
        feed(watch, 1)  # back within the bounds, so the count starts again
        feed(watch, 2, **figures)
    with pytest.warns(UnstableRunWarning, match=message) as seen:
        feed(watch, 9, **figures)
    assert len(seen) == 1


def test_an_unstable_run_is_stopped_with_the_option_stop():
    watch = StabilityWatch(StabilitySection(patience=2, stop=True))
    feed(watch, 4)
    with pytest.raises(JigsawError, match=r"step 1: entropy .*stability\.stop"):
        feed(watch, 2, entropy=0.0)


def test_a_resumed_run_keeps_the_reference_values_of_its_first_steps():
    """Given metrics that collapsed before a checkpoint, they are compared with the first steps of the run."""
    before, after = (StabilityWatch(StabilitySection(patience=3)) for _ in range(2))
    feed(before, 4)
    feed(before, 2, entropy=0.01)
    after.load_state(json.loads(json.dumps(before.state())))
    with pytest.warns(UnstableRunWarning, match="entropy 0.01 against 1 at first"):
        feed(after, 1, entropy=0.01)


def test_other_logs_are_ignored():
    StabilityWatch(StabilitySection()).on_log(None, SimpleNamespace(global_step=1), None, {"train_runtime": 1.0})
