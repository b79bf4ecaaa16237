"""Computes the display time of each frame of a video from time stamps. Pure functions.

In: the packets of a stream in the order of the container, or all frames in the order of the decoder. Out: a `Timeline`.
Stamps are integers in the stream's time base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

Stamps = np.ndarray[Any, np.dtype[np.int64]]
Times = np.ndarray[Any, np.dtype[np.float64]]

GAP = 10.0
"""Seconds. In containers that may be concatenated (transport streams), a longer gap is a join."""


class Packet(NamedTuple):
    """One packet of a stream in decoding order.

    Attributes:
        pts, dts: presentation and decoding time stamps; None if the container has none.
        key: whether decoding can begin here.
        discard: whether the frame is decoded but not shown (an edit list).
    """

    pts: int | None
    dts: int | None
    key: bool
    discard: bool


@dataclass(frozen=True)
class Timeline:
    """The display times of the frames, in presentation order.

    Attributes:
        times: seconds from the first frame, increasing; shape `(num_frames,)`.
        stamps: stamps by which frames are found, increasing; None: frames are found by counting.
    """

    times: Times
    stamps: Stamps | None


def stamps_fault(packets: Sequence[Packet]) -> str:
    """The reason why the packets' stamps do not give the display times; empty if they do."""
    stamps = [packet.pts for packet in packets if not packet.discard]
    if any(stamp is None for stamp in stamps):
        return "packets have no time stamps"
    if len(set(stamps)) < len(stamps):
        return "time stamps occur twice"
    decoding = [packet.dts for packet in packets if packet.dts is not None]
    if any(after < before for before, after in pairwise(decoding)):
        return "time stamps begin again"
    return ""


def timeline_of_packets(packets: Sequence[Packet], first: int, unit: float, joined: bool) -> Timeline:
    """The timeline of packets whose stamps have no fault.

    Args:
        packets: all packets of the stream.
        first: stamp of the first frame that a decoder returns; earlier packets belong to frames that were cut off.
        unit: time base in seconds.
        joined: whether a gap of more than `GAP` seconds is a join.
    """
    shown = sorted(packet.pts for packet in packets if packet.pts is not None and not packet.discard)
    stamps = np.asarray(shown[np.searchsorted(shown, first) :], dtype=np.int64)
    return Timeline(_times(np.diff(stamps), stamps, unit, joined), stamps)


def timeline_of_frames(
    frames: Sequence[tuple[int | None, int | None]],
    packets: Sequence[Packet],
    unit: float,
    *,
    joined: bool,
    counted: bool,
) -> Timeline | None:
    """The timeline of a fully decoded stream; None if its frames have no times.

    If stamps start again, the next part follows the previous one.

    Args:
        frames: pts and dts of every frame, in the order of the decoder.
        packets: all packets of the stream.
        unit: time base in seconds.
        joined: whether a gap of more than `GAP` seconds is a join.
        counted: whether the container numbers its frames instead of storing times (AVI).
    """
    stamps: list[int] | None
    if counted:
        shown = sorted(packet.dts for packet in packets if packet.dts is not None)
        stamps = shown if len(shown) == len(frames) else _filled([dts for _, dts in frames])
    else:
        stored = [pts for pts, _ in frames if pts is not None]
        stamps = stored if len(stored) == len(frames) else _filled([dts for _, dts in frames])
    if not stamps:
        return None
    ordered = np.asarray(stamps, dtype=np.int64)
    steps = np.diff(ordered)
    by_stamp = not counted and len(stored) == len(frames) and bool((steps > 0).all())
    return Timeline(_times(steps, ordered, unit, joined), ordered if by_stamp else None)


def _times(steps: Stamps, stamps: Stamps, unit: float, joined: bool) -> Times:
    """Seconds from the first frame; backward steps, and gaps at joins, count as one frame."""
    wrong = (steps <= 0) | (joined & (steps * unit > GAP))
    if not wrong.any():
        return np.asarray((stamps - stamps[0]) * unit, dtype=np.float64)
    usual = float(np.median(steps[~wrong])) if (~wrong).any() else 1.0
    return np.concatenate([np.zeros(1), np.cumsum(np.where(wrong, usual, steps)) * unit])


def _filled(stamps: Sequence[int | None]) -> list[int] | None:
    """Stamps with missing last ones filled in; None if others are missing."""
    stored = [stamp for stamp in stamps if stamp is not None]
    if len(stored) < 2 or None in stamps[: len(stored)]:
        return None
    step = max(1, round(float(np.median(np.diff(stored)))))
    return stored + [stored[-1] + step * number for number in range(1, len(stamps) - len(stored) + 1)]


def index_fault(packets: Sequence[Packet], stamps: Stamps) -> str:
    """The reason why frames cannot be picked by number from key frames on, as decord does; empty if they can.

    A key frame must have the same number in decoding order and in presentation order. Otherwise a frame that is decoded
    after it is shown before it (an open group of pictures).
    """
    if any(packet.discard for packet in packets):
        return "an edit list hides frames"
    if len(packets) != len(stamps):
        return "it begins with frames that cannot be decoded"
    for number, packet in enumerate(packets):
        if packet.key and packet.pts != stamps[number]:
            return "its groups of pictures are open"
    return "" if packets[0].key else "it does not begin with a key frame"
