"""Shortcuts for answers that are an interval of a clip.

In: puzzles of one kind. Out: start and end in seconds per puzzle. The rules use the mean interval of other sources, the
two largest differences between frames, or the run of frames with most or least motion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jigsaw.audit.shortcut import Shortcut
from jigsaw.tasks import Pieces

Seconds = list[float]


@dataclass(frozen=True)
class IntervalSample:
    """One puzzle for the shortcuts.

    Attributes:
        answer: start and end in seconds.
        source: what it was made from.
        steps: mean difference from each frame to the next, 0 to 255.
        fps: frames per second of the clip.
    """

    answer: Seconds
    source: str
    steps: Sequence[float]
    fps: float


def _constant(samples: Sequence[IntervalSample]) -> list[Seconds]:
    return [list(np.mean(_others(samples, sample) or [[0.0, 1.0]], axis=0)) for sample in samples]


def _others(samples: Sequence[IntervalSample], own: IntervalSample) -> list[Seconds]:
    """The answers of other sources."""
    return [sample.answer for sample in samples if sample.source != own.source]


def _steps(samples: Sequence[IntervalSample]) -> list[Seconds] | None:
    """The interval between the two largest differences of frames."""
    if any(len(sample.steps) < 2 for sample in samples):
        return None
    intervals = []
    for sample in samples:
        first, last = sorted(int(at) for at in np.argsort(sample.steps)[-2:])
        intervals.append([(first + 1) / sample.fps, (last + 1) / sample.fps])
    return intervals


def _run(samples: Sequence[IntervalSample], sign: float) -> list[Seconds] | None:
    """The run of frames with the mean length of other sources and the most (sign 1) or least (-1) motion."""
    if any(len(sample.steps) < 2 for sample in samples):
        return None
    intervals = []
    for sample in samples:
        lengths = [end - start for start, end in _others(samples, sample)] or [len(sample.steps) / 3 / sample.fps]
        length = min(len(sample.steps), max(1, round(float(np.mean(lengths)) * sample.fps)))
        sums = np.convolve(np.asarray(sample.steps), np.ones(length), mode="valid")
        start = int(np.argmax(sign * sums))
        intervals.append([start / sample.fps, (start + length) / sample.fps])
    return intervals


SHORTCUTS: tuple[Shortcut[IntervalSample], ...] = (
    Shortcut("constant", "the mean interval of other sources", "order", _constant),
    Shortcut("largest steps", "the two largest differences between frames", "look", _steps),
    Shortcut("most motion", "the run of frames with most motion", "look", lambda samples: _run(samples, 1)),
    Shortcut("least motion", "the run of frames with least motion", "look", lambda samples: _run(samples, -1)),
)


def interval_sample(row: Mapping[str, Any], _pieces: Pieces, _stored: Sequence[int]) -> IntervalSample:
    """The sample of a loaded row."""
    clips: Any = row.get("videos") or ()
    frames: Any = clips[0].frames.astype(np.float64) if len(clips) == 1 else np.zeros((1, 1, 1, 3))
    moved: Any = np.abs(np.diff(frames, axis=0))
    return IntervalSample(
        answer=list(row["answer"]),
        source=row["source"]["path"],
        steps=[float(each) for each in moved.reshape(len(moved), -1).mean(axis=1)] if len(moved) else [],
        fps=clips[0].fps if clips else 1.0,
    )
