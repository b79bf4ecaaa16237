"""Synthetic sources: photos in memory with a different colour at each place, videos and sound."""

import hashlib
import io
import struct
from contextlib import ExitStack
from fractions import Fraction

import av
import numpy as np
from av.stream import Disposition

from jigsaw.tasks import Source


def photo_pixels(width, height, seed=0):
    """Smooth colour ramps plus noise, so that all parts of the photo differ."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    ramps = np.stack([x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)], axis=-1)
    return np.clip(ramps + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)


def encode(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def source_of(data, role="image", path="photo.png"):
    return Source(path=path, fingerprint=hashlib.sha256(data).hexdigest(), files={role: data})


BITS = 10
"""Number of black and white columns with which a synthetic frame shows its number in binary."""


def numbered_frame(number, size=(160, 96), seed=None):
    """A frame that shows its number in binary above a picture that changes with the number."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    frame = np.stack([(x * 3 + number * 5) % 256, (y * 3 + number * 9) % 256, (x + y) % 256], axis=-1)
    bar = width // BITS
    for bit in range(BITS):
        frame[: height // 2, bit * bar : (bit + 1) * bar] = 255 * (number >> bit & 1)
    return frame.astype(np.uint8)


def number_in(frame):
    """The number that `numbered_frame` drew, read at any size."""
    height, width = frame.shape[:2]
    bar = width / BITS
    columns = [frame[4 : height // 2 - 4, int((bit + 0.5) * bar)].mean() > 127 for bit in range(BITS)]
    return sum(int(on) << bit for bit, on in enumerate(columns))


def write_video(
    path,
    frames=120,
    rate=10,
    size=(160, 96),
    gaps=None,
    picture=numbered_frame,
    quarter_turns=0,
    codec="libx264",
    form=None,
    options=None,
    setup=None,
):
    """Writes a video file and returns its path.

    `gaps` are the milliseconds between frames, `quarter_turns` a clockwise display rotation, `form` the container if
    the suffix does not determine it, `options` those of the codec; `setup` gets the stream before it is opened.
    """
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.options = options if options is not None else {"g": "25", "crf": "12"} if codec == "libx264" else {}
        if setup is not None:
            setup(stream)
        if gaps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        stamp = 0
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, size), format="rgb24")
            if gaps is not None:
                frame.pts, frame.time_base = stamp, Fraction(1, 1000)
                stamp += gaps[number % len(gaps)]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if quarter_turns:
        orient(path, {1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 3: (0, -1, 1, 0)}[quarter_turns])
    return path


def hide_start(source, path, frames):
    """A copy of an MP4 whose edit list hides its first frames, as phones trim videos."""
    options = {"avoid_negative_ts": "disabled", "use_editlist": "1"}
    with av.open(str(source)) as container, av.open(str(path), "w", options=options) as trimmed:
        read = container.streams.video[0]
        written = trimmed.add_stream_from_template(read)
        hidden = round(frames / read.average_rate / read.time_base)
        for packet in container.demux(read):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - hidden, packet.dts - hidden, written
                trimmed.mux(packet)
    return path


def write_sound(path):
    """An MP4 with sound and without a video stream."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), dtype=np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remux(source, path, change=None, form=None, options=None):
    """A copy of a video's packets; `change` gets each packet and its number and returns False to drop the packet."""
    with av.open(str(source)) as container, av.open(str(path), "w", format=form, options=options or {}) as copy:
        read = container.streams.video[0]
        written = copy.add_stream_from_template(read)
        packets = (packet for packet in container.demux(read) if packet.dts is not None)
        for number, packet in enumerate(packets):
            if change is None or change(packet, number) is not False:
                packet.stream = written
                copy.mux(packet)
    return path


def delay_by(stamp):
    """A change for `remux` that delays every packet by that many units of the time base."""

    def change(packet, _):
        packet.pts, packet.dts = packet.pts + stamp, packet.dts + stamp

    return change


def several_streams(path, parts, default=None):
    """A file with the video streams of several files; `default` is the number of the stream marked as default."""
    with ExitStack() as stack:
        copy = stack.enter_context(av.open(str(path), "w"))
        reads = [stack.enter_context(av.open(str(part))) for part in parts]
        streams = [read.streams.video[0] for read in reads]
        written = [copy.add_stream_from_template(stream) for stream in streams]
        for number, stream in enumerate(written):
            if default is not None:
                stream.disposition = Disposition.default if number == default else Disposition(0)
        for read, stream, target in zip(reads, streams, written, strict=True):
            for packet in read.demux(stream):
                if packet.dts is not None:
                    packet.stream = target
                    copy.mux(packet)
    return path


def orient(path, matrix):
    """Writes `a b c d` of a display matrix into an MP4's track header; 1 means no scaling."""
    data = bytearray(path.read_bytes())
    header = data.find(b"tkhd") + 4
    start = header + 4 + (20 if data[header] == 0 else 32) + 16
    a, b, c, d = (round(number * 65536) for number in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def packed_bitstream(source, path):
    """An AVI with a packed bitstream, as old DivX wrote it: a B-frame shares a packet, and the next packet is empty."""
    with av.open(str(source)) as container:
        packets = [(bytes(p), p.is_keyframe) for p in container.demux(container.streams.video[0]) if p.dts is not None]
    kinds = [data[data.find(b"\0\0\1\xb6") + 4] >> 6 for data, _ in packets]
    out, at = [], 0
    while at < len(packets):
        (data, key), after = packets[at], at + 1
        if kinds[at] != 2 and kinds[after : after + 1] == [2]:
            out.append((data + packets[after][0], key))
            after += 1
            while kinds[after : after + 1] == [2]:
                out.append(packets[after])
                after += 1
            out.append((b"\0\0\1\xb6\x50\x5f\x7f", False))
        else:
            out.append((data, key))
        at = after
    first, key = out[0]
    place = first.find(b"\0\0\1\xb6")
    out[0] = (first[:place] + b"\0\0\1\xb2DivX503b1393p" + first[place:], key)
    with av.open(str(source)) as container, av.open(str(path), "w") as copy:
        written = copy.add_stream_from_template(container.streams.video[0])
        for number, (data, key) in enumerate(out):
            packet = av.Packet(data)
            packet.pts = packet.dts = number
            packet.time_base, packet.is_keyframe, packet.stream = Fraction(1, 25), key, written
            copy.mux(packet)
    return path
