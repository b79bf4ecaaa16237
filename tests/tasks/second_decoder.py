"""A second decoder for comparison: reads videos and pictures with the `ffmpeg` program of imageio-ffmpeg.

It is another build than PyAV's, has readers of JPEG, PNG, TIFF, WebP and JPEG 2000 other than Pillow's, always decodes
from the first frame without seeking, and does not use this project's code for time, colour profiles and orientation.
"""

import subprocess

import numpy as np

KINDS = {"rgb24": (3, "u1"), "rgba": (4, "u1"), "gray": (1, "u1"), "gray16be": (1, ">u2"), "grayf32le": (1, "<f4")}
PRECISE = "accurate_rnd+full_chroma_int+full_chroma_inp+bicubic"


def decode_with_ffmpeg(path, size, kind="rgb24", *, scale=None, turned=True, first=False):
    """Decodes all pictures of a file into an array of shape `(N, height, width, channels)`.

    Args:
        size: width and height of the decoded pictures.
        kind: a key of `KINDS`.
        scale: width and height to scale them to; must equal `size`.
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
    pixels = np.frombuffer(done.stdout, number)
    assert len(pixels) and len(pixels) % (size[0] * size[1] * channels) == 0, (path, done.stderr.decode()[:300])
    return pixels.reshape(shape)
