"""Video streams with PyAV: chooses a stream, reads its packets, and decodes its frames in presentation order.

In: a path or the bytes of a video. Out: a `Track` with the packets of the chosen stream, and decoded frames from a key
frame on. A frame is identified by the time stamp that the decoder returns.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from jigsaw.tasks.media.formats import MediaError
from jigsaw.tasks.media.video_display import Frames, Orientation, displayed_size, orientation_of
from jigsaw.tasks.media.video_timeline import GAP, Packet

MAX_FRAME_PIXELS = 50_000_000
"""Videos with larger frames are refused before a frame is decoded; 8K has 33 million."""

_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,mpegts,flv,live_flv,asf,ogg"
"""Containers that are opened, by FFmpeg's names, regardless of the file's name."""

_COUNTING = {"avi", "mpegvideo"}
"""Containers that number frames instead of storing times; FFmpeg guesses the stamps of their packets."""

_STATING = {"mp4", "matroska", "asf"}
"""Containers whose pixel aspect ratio takes precedence over that of the coded stream, as in FFmpeg."""

_EXACT = {"h264": {5}, "hevc": {16, 17, 18, 19, 20, 21}}
"""NAL unit types of complete pictures, at which decoding can begin (H.264 table 7-1, H.265 table 7-1)."""


class VideoError(MediaError):
    """A video cannot be used; `reason` is a key of `jigsaw.tasks.media.videos.VIDEO_REASONS`."""


@dataclass(frozen=True)
class Display:
    """The display properties of a frame.

    Attributes:
        size: width and height in square pixels, upright.
        orientation: operation that makes it upright.
        interlaced: whether it has two fields of different moments.
    """

    size: tuple[int, int]
    orientation: Orientation
    interlaced: bool

    def upright(self, frame: Any, size: tuple[int, int]) -> Frames:
        """The RGB pixels of a decoded frame at width and height `size`, upright; shape `(height, width, 3)`."""
        width, height = size[::-1] if self.orientation.transpose else size
        scaled = frame.reformat(width=width, height=height, format="rgb24", interpolation="BICUBIC")
        return self.orientation.apply(scaled.to_ndarray())


@dataclass
class Track:
    """The video stream that is shown.

    Attributes:
        index: index in the container.
        packets: all packets in decoding order.
        unit: time base in seconds.
        counted: whether the container numbers frames instead of storing times, and the codec may reorder them.
        joined: whether files of the container may be concatenated, so that time stamps jump at the joins.
        fault: reason why frames cannot be picked by number (see `VideoHeader.index_fault`); empty if there is none.
        first: stamp of the first frame that is shown.
        display: display properties of that frame.
    """

    index: int
    unit: float
    counted: bool
    joined: bool
    fault: str
    packets: list[Packet] = field(default_factory=list)
    first: int | None = None
    display: Display | None = None


@contextmanager
def open_container(file: Path | bytes) -> Iterator[Any]:
    """A video opened by PyAV. Playlists are refused, because they name other files or addresses to read."""
    import av

    av.logging.set_level(None)
    with av.open(stream_of(file), options={"format_whitelist": _CONTAINERS}) as container:
        yield container


def stream_of(file: Path | bytes) -> Any:
    """The input of decoders: a path as text, or a stream of the bytes."""
    return io.BytesIO(file) if isinstance(file, bytes) else str(file)


def read_track(file: Path | bytes) -> Track:
    """Read the packets of a video, decode the first frame, and choose the stream that is shown.

    Raises:
        VideoError: there is no such stream, or its frames are too large.
    """
    import av

    with open_container(file) as container:
        streams = _moving(container.streams.video)
        if not streams:
            what = "has only a cover picture" if container.streams.video else "has no video stream"
            raise VideoError("no_video", f"the file {what}")
        tracks = {stream.index: _track(container, stream) for stream in streams}
        runs = {stream.index: _Run(stream) for stream in streams}
        for packet in container.demux(streams):
            track, stream = tracks[packet.stream_index], container.streams[packet.stream_index]
            if packet.size:
                track.fault = track.fault or _packet_fault(packet, stream)
                track.packets.append(Packet(packet.pts, packet.dts, packet.is_keyframe, packet.is_discard))
            if track.display is None and stream.width * stream.height <= MAX_FRAME_PIXELS:
                with suppress(av.FFmpegError):  # a damaged stream: another one may be chosen
                    for frame in runs[stream.index].frames(packet)[:1]:
                        track.first, track.display = frame.pts, display_of(frame, stream)
        chosen = _chosen(streams, tracks)
        stream = container.streams[chosen.index]
        if stream.width * stream.height > MAX_FRAME_PIXELS:
            raise VideoError(
                "too_large",
                f"its frames are {stream.width}x{stream.height} pixels; at most {MAX_FRAME_PIXELS:,} are read",
            )
        return chosen


def play(container: Any, index: int, start: int | None = None) -> Iterator[Any]:
    """The frames of a stream in presentation order, from the next key frame on.

    Args:
        container: an open container.
        index: index of the stream.
        start: a stamp to seek to; None starts at the current position.

    Raises:
        av.FFmpegError: a packet after the key frame is damaged, and it is not the last one.
    """
    stream = container.streams[index]
    if start is not None:
        container.seek(start, stream=stream)
    run = _Run(stream)
    for packet in container.demux(stream):
        for frame in run.frames(packet):
            # After a seek, frames that are shown before the key frame refer to frames that were not decoded.
            if start is None or frame.pts is None or frame.pts >= run.began:
                yield frame


class _Run:
    """Decodes packets from a key frame on. Earlier packets refer to frames that are not available.

    Attributes:
        began: stamp of the key frame.
    """

    def __init__(self, stream: Any) -> None:
        if not stream.codec_context.is_open:
            stream.codec_context.thread_count = 1  # there are as many decoding processes as cores
        self._stream = stream
        self.began = 0
        self._waiting = True
        self._before: int | None = None
        self._gap = GAP / float(stream.time_base) if is_joined(stream.container) else math.inf
        self._error: Exception | None = None

    def frames(self, packet: Any) -> Sequence[Any]:
        """The frames that the decoder returns after this packet.

        Raises:
            av.FFmpegError: the previous packet was damaged. An error of the last packet is ignored.
        """
        import av

        last = not packet.size and packet.dts is None and packet.pts is None
        if not packet.size and not last:
            return ()  # a dropped frame of an AVI, which a decoder would take for the end of the stream
        if self._error is not None and not last:
            raise self._error
        ended = self._ended(packet.dts)
        if self._waiting and packet.is_keyframe:
            self._waiting, self.began = False, packet.pts if packet.pts is not None else 0
        if self._waiting and not last:
            return ended
        try:
            return [*ended, *self._stream.decode(packet)]
        except av.FFmpegError as error:
            if packet.pts is None or packet.pts >= self.began:  # otherwise it is shown before the key frame
                self._error = error
            return ended

    def _ended(self, dts: int | None) -> Sequence[Any]:
        """The last frames of a part if it ends before a packet with that stamp; the next part is decoded separately."""
        before, self._before = self._before, self._before if dts is None else dts
        if dts is None or before is None or 0 <= dts - before <= self._gap:
            return ()
        last: Sequence[Any] = () if self._waiting else self._stream.codec_context.decode(None)
        self._stream.codec_context.flush_buffers()
        self._waiting = True
        return last


def display_of(frame: Any, stream: Any) -> Display:
    """The display properties of a decoded frame.

    Raises:
        VideoError: the angle is not a multiple of quarter turns, or the pixel aspect ratio is not plausible.
    """
    side = frame.side_data.get("DISPLAYMATRIX")
    orientation = orientation_of(None if side is None else bytes(side))
    if orientation is None:
        raise VideoError(
            "tilted", f"its header turns the frames by {frame.rotation} degrees; only quarter turns are supported"
        )
    aspect = _aspect(stream)
    try:
        size = displayed_size((frame.width, frame.height), aspect, orientation)
    except ValueError as error:
        raise VideoError("unreadable", f"the frames have {error}") from error
    return Display(size, orientation, bool(frame.interlaced_frame))


def _aspect(stream: Any) -> Fraction | None:
    """Width of a pixel divided by its height, from the container or from the stream, where it may change."""
    stated, coded = stream.sample_aspect_ratio, stream.codec_context.sample_aspect_ratio
    by_container = _STATING & set(stream.container.format.name.split(","))
    aspect: Fraction | None = (stated or coded) if by_container else (coded or stated)
    return aspect


def _moving(streams: Sequence[Any]) -> list[Any]:
    """The streams that are not cover pictures or thumbnails."""
    from av.stream import Disposition

    stills = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    return [stream for stream in streams if not stream.disposition & stills]


def _track(container: Any, stream: Any) -> Track:
    names = set(container.format.name.split(","))
    counted = bool(names & _COUNTING) and stream.codec_context.codec.reorder
    fault = ""
    if "mp4" not in names:
        fault = f"the container ({container.format.name.partition(',')[0]}) has no exact index"
    elif len(_moving(container.streams.video)) > 1:
        fault = "the file has several video streams"
    return Track(
        index=stream.index,
        unit=float(stream.time_base),
        counted=counted,
        joined=is_joined(container),
        fault=fault,
    )


def is_joined(container: Any) -> bool:
    """Whether files of this container may be concatenated, so that time stamps jump at the joins."""
    from av.format import Flags

    return bool(container.format.flags & Flags.ts_discont.value)


def _chosen(streams: Sequence[Any], tracks: dict[int, Track]) -> Track:
    """The stream that is shown, by rank: not a still picture, marked as default, longest, largest."""
    from av.stream import Disposition

    def length(track: Track) -> float:
        stamps = [packet.pts if packet.pts is not None else packet.dts for packet in track.packets]
        stored = [stamp for stamp in stamps if stamp is not None]
        return (max(stored) - min(stored)) * track.unit if stored else 0.0

    lengths = {index: length(track) for index, track in tracks.items()}
    longest = max(lengths.values())

    def rank(stream: Any) -> tuple[bool, bool, float, int, int]:
        mostly = lengths[stream.index] >= longest / 2 and (len(tracks[stream.index].packets) > 1 or longest == 0)
        default = bool(stream.disposition & Disposition.default)
        return mostly, default, lengths[stream.index], stream.width * stream.height, -stream.index

    return tracks[max(streams, key=rank).index]


def _packet_fault(packet: Any, stream: Any) -> str:
    """The reason why a packet makes picking frames by number unsafe; empty if there is none."""
    if not hasattr(packet, "has_sidedata"):  # PyAV 15, which lmms-eval 0.7 asks for
        return "this release of PyAV does not report changes of the coding parameters"
    if packet.has_sidedata("new_extradata") or packet.has_sidedata("param_change"):
        return "its coding parameters change within the video"
    exact = _EXACT.get(stream.codec_context.name)
    if exact is not None and packet.is_keyframe and not exact & _nal_types(packet, stream):
        return "its key frames are not complete pictures"
    return ""


def _nal_types(packet: Any, stream: Any) -> set[int]:
    """Types of the NAL units of an H.264 or H.265 packet with length-prefixed units, as in MP4."""
    hevc, setup = stream.codec_context.name == "hevc", stream.codec_context.extradata or b""
    place = 21 if hevc else 4
    if len(setup) <= place or setup[0] != 1:
        return set()  # start codes instead of lengths: rare in MP4, and PyAV reads them
    width, data, types, at = (setup[place] & 3) + 1, memoryview(packet), set(), 0
    while at + width < len(data):
        head = data[at + width]
        types.add(head >> 1 & 0x3F if hevc else head & 0x1F)
        at += width + int.from_bytes(data[at : at + width], "big")
    return types
