"""Opening photos: every mode and orientation comes out upright and RGB; whatever is damaged comes out by name."""

import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_media import encode, photo_pixels
from PIL import Image

from jigsaw.tasks.photos import PhotoError, read_header, read_photo

PIXELS = photo_pixels(120, 80)
PHOTO = Image.fromarray(PIXELS)


def shown(data, scale=1):
    return np.asarray(read_photo(data, scale)).astype(float)


def test_cmyk_comes_out_in_the_colours_it_was_made_from():
    assert np.abs(shown(encode(PHOTO.convert("CMYK"), "TIFF")) - PIXELS).mean() < 3
    assert np.abs(shown(encode(PHOTO.convert("CMYK"), "JPEG", quality=95)) - PIXELS).mean() < 8


def test_sixteen_bit_grey_keeps_its_range():
    ramp = np.linspace(0, 65535, 120 * 80).reshape(80, 120).astype(np.uint16)
    grey = shown(encode(Image.fromarray(ramp)))
    assert grey.min() < 3
    assert grey.max() > 252
    assert np.abs(grey[..., 0] - ramp / 257).max() <= 1


def test_palettes_and_grey_become_rgb():
    assert np.abs(shown(encode(PHOTO.quantize(256))) - PIXELS).mean() < 12
    assert shown(encode(PHOTO.convert("L"))).shape == (80, 120, 3)
    assert shown(encode(PHOTO.convert("1"))).shape == (80, 120, 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_shows_white(mode):
    layer = PHOTO.convert("RGBA")
    layer.putalpha(Image.fromarray(np.repeat([[0] * 60 + [255] * 60], 80, axis=0).astype(np.uint8)))
    picture = layer.quantize(64) if mode == "P" else layer.convert(mode)
    pixels = shown(encode(picture))
    assert (pixels[:, :58] > 250).all()
    assert pixels[:, 62:].mean() < 200


def test_an_animation_shows_its_first_frame():
    frames = [Image.new("RGB", (60, 40), color) for color in ("red", "blue", "lime")]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.abs(shown(data)[20, 30] - (255, 0, 0)).max() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_comes_out_upright(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    # What a camera held that way would store; a flip or half turn undoes itself.
    inverse = {
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
    }
    stored = PHOTO if orientation == 1 else PHOTO.transpose(inverse[orientation])
    data = encode(stored, kind, exif=exif.tobytes())
    header = read_header(data)
    assert header.size == (120, 80)
    for scale in (1, 2):
        pixels = shown(data, scale)
        assert pixels.shape == (80 // scale, 120 // scale, 3)
        expected = np.asarray(PHOTO.reduce(scale)).astype(float)
        assert np.abs(pixels - expected).mean() < 12


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(120, 80), (121, 83), (64, 9), (7, 5)])
def test_a_fraction_of_the_size_rounds_up_as_the_header_says(size, kind, scale):
    data = encode(PHOTO.resize(size), kind)
    if min(size) >= scale:
        assert read_photo(data, scale).size == read_header(data).scaled_size(scale)


def bomb():
    """A picture of 20,000 x 20,000 pixels in a few kilobytes."""
    return encode(Image.new("1", (20_000, 20_000)))


def test_giant_pictures_are_too_large_before_they_are_decoded():
    for data in (bomb(), encode(Image.new("1", (12_000, 12_000)))):
        with pytest.raises(PhotoError) as caught:
            read_photo(data)
        assert caught.value.reason == "too_large"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        b"\xff\xd8\xff\xe0",
        encode(PHOTO, "JPEG")[:-400],
        encode(PHOTO)[:-400],
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
    ],
)
def test_what_is_no_whole_picture_is_unreadable(data):
    with pytest.raises(PhotoError) as caught:
        read_photo(data)
    assert caught.value.reason == "unreadable"


def test_a_missing_file_is_unreadable(tmp_path):
    with pytest.raises(PhotoError):
        read_header(tmp_path / "none.jpg")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]), st.data())
def test_damaged_bytes_never_raise_anything_else(kind, data):
    content = bytearray(encode(PHOTO, kind))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(PhotoError):
        assert read_photo(bytes(content)).mode == "RGB"


def test_reading_leaves_no_file_open(tmp_path):
    path = tmp_path / "a.png"
    PHOTO.save(path)
    image = read_photo(path)
    path.unlink()
    assert image.getpixel((0, 0)) == tuple(PIXELS[0, 0])
    assert read_photo(encode(PHOTO)).tobytes() == read_photo(io.BytesIO(encode(PHOTO)).getvalue()).tobytes()
