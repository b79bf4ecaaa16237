"""When each frame of a video is shown, worked out from time stamps. No file is touched.

In: the packets of a stream as the container holds them, or the frames as a decoder gave them from the first to the
last. Out: a `Timeline`. Stamps are integers in the stream's time base.
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
"""Seconds. In containers that are put behind one another byte by byte (transport streams), a longer gap is a join."""


class Packet(NamedTuple):
    """One packet of a stream in the order of decoding.

    Attributes:
        pts, dts: when its frame is shown and decoded; None where the container does not say.
        key: decoding can begin here.
        discard: decoded, but not shown (an edit list).
    """

    pts: int | None
    dts: int | None
    key: bool
    discard: bool


@dataclass(frozen=True)
class Timeline:
    """When frames are shown, in the order in which they are shown.

    Attributes:
        times: seconds from the first frame, increasing; shape `(num_frames,)`.
        stamps: the frames' stamps, by which a frame is found; increasing. None: frames are found by counting.
    """

    times: Times
    stamps: Stamps | None


def stamps_fault(packets: Sequence[Packet]) -> str:
    """Why the packets' stamps alone do not tell when frames are shown; empty if they do."""
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
        first: the stamp of the first frame that a decoder shows; packets before it belong to frames that were cut off.
        unit: seconds of the time base.
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
    """The timeline of a stream that was decoded from its first to its last frame; None if its frames have no times.

    Where stamps begin again, the frames go on after the last one: the parts follow one another.

    Args:
        frames: pts and dts of every frame, in the order in which the decoder gave them.
        packets: all packets of the stream.
        counted: the container numbers its frames instead of timing them (AVI).
    """
    stamps: list[int] | None
    if counted:
        shown = sorted(packet.dts for packet in packets if packet.dts is not None)
        stamps = shown if len(shown) == len(frames) else _filled([dts for _, dts in frames])
    else:
        given = [pts for pts, _ in frames if pts is not None]
        stamps = given if len(given) == len(frames) else _filled([dts for _, dts in frames])
    if not stamps:
        return None
    ordered = np.asarray(stamps, dtype=np.int64)
    steps = np.diff(ordered)
    by_stamp = not counted and len(given) == len(frames) and bool((steps > 0).all())
    return Timeline(_times(steps, ordered, unit, joined), ordered if by_stamp else None)


def _times(steps: Stamps, stamps: Stamps, unit: float, joined: bool) -> Times:
    """Seconds from the first frame; steps backwards, and gaps where parts may be joined, count as one frame."""
    wrong = (steps <= 0) | (joined & (steps * unit > GAP))
    if not wrong.any():
        return np.asarray((stamps - stamps[0]) * unit, dtype=np.float64)
    usual = float(np.median(steps[~wrong])) if (~wrong).any() else 1.0
    return np.concatenate([np.zeros(1), np.cumsum(np.where(wrong, usual, steps)) * unit])


def _filled(stamps: Sequence[int | None]) -> list[int] | None:
    """Stamps of which only the last ones are missing, with these filled in; None if others are missing."""
    known = [stamp for stamp in stamps if stamp is not None]
    if len(known) < 2 or None in stamps[: len(known)]:
        return None
    step = max(1, round(float(np.median(np.diff(known)))))
    return known + [known[-1] + step * number for number in range(1, len(stamps) - len(known) + 1)]


def index_fault(packets: Sequence[Packet], stamps: Stamps) -> str:
    """Why frames cannot be picked by number from key frames on, as decord does; empty if they can.

    A key frame's number in the order of decoding must be its number in the order of showing, so that no frame that is
    decoded after a key frame is shown before it (an open group of pictures).
    """
    if any(packet.discard for packet in packets):
        return "an edit list hides frames"
    if len(packets) != len(stamps):
        return "it begins with frames that cannot be decoded"
    for number, packet in enumerate(packets):
        if packet.key and packet.pts != stamps[number]:
            return "its groups of pictures are open"
    return "" if packets[0].key else "it does not begin with a key frame"
