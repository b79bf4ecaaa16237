"""Sources made on the spot: photos in memory, each place of which has a colour of its own."""

import hashlib
import io

import numpy as np

from tasks import Source


def photo_pixels(width, height, seed=0):
    """Smooth colour ramps plus noise: no two places look alike."""
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
