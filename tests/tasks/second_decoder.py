"""Frames and pictures read by the `ffmpeg` program of imageio-ffmpeg: another build and other readers than ours.

It is called with plain options and decodes from the start to the end: it seeks to nothing, and knows nothing of our
time lines, profiles and orientations. Its readers of JPEG, PNG, TIFF, WebP and JPEG 2000 are its own, not Pillow's.
"""

import subprocess

import numpy as np

KINDS = {"rgb24": (3, "u1"), "rgba": (4, "u1"), "gray": (1, "u1"), "gray16be": (1, ">u2"), "grayf32le": (1, "<f4")}
PRECISE = "accurate_rnd+full_chroma_int+full_chroma_inp+bicubic"


def decoded(path, size, kind="rgb24", *, scale=None, turned=True, first=False):
    """All pictures of a file, shape `(N, height, width, channels)`.

    Args:
        size: width and height in which they come out.
        kind: a key of `KINDS`.
        scale: width and height to scale them to; must be `size` then.
        turned: apply the display matrix, as players do.
        first: read only the first picture.
    """
    from imageio_ffmpeg import get_ffmpeg_exe

    filters = [] if scale is None else ["-vf", f"scale={scale[0]}:{scale[1]}:flags={PRECISE}"]
    command = [
        get_ffmpeg_exe(),
        "-v",
        "error",
        *([] if turned else ["-noautorotate"]),
        "-i",
        str(path),
        "-map",
        "0:v:0",
    ]
    command += [*filters, "-sws_flags", PRECISE, *(["-frames:v", "1"] if first else []), "-fps_mode", "passthrough"]
    done = subprocess.run([*command, "-pix_fmt", kind, "-f", "rawvideo", "-"], capture_output=True, check=False)
    channels, number = KINDS[kind]
    shape = (-1, size[1], size[0], channels)
    found = np.frombuffer(done.stdout, number)
    assert len(found) and len(found) % (size[0] * size[1] * channels) == 0, (path, done.stderr.decode()[:300])
    return found.reshape(shape)
