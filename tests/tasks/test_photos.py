"""Reading of photos: all modes and orientations become upright RGB, and damaged files are refused with a reason."""

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from synthetic_media import encode, photo_pixels

from jigsaw.tasks.media.photos import PhotoError, read_header, read_photo

PIXELS = photo_pixels(120, 80)
PHOTO = Image.fromarray(PIXELS)


def read_pixels(data, scale=1):
    return np.asarray(read_photo(data, scale)).astype(float)


def test_cmyk_is_converted_to_the_original_colours():
    assert np.abs(read_pixels(encode(PHOTO.convert("CMYK"), "TIFF")) - PIXELS).mean() < 3
    assert np.abs(read_pixels(encode(PHOTO.convert("CMYK"), "JPEG", quality=95)) - PIXELS).mean() < 8


def test_16_bit_grey_keeps_its_range():
    ramp = np.linspace(0, 65535, 120 * 80).reshape(80, 120).astype(np.uint16)
    grey = read_pixels(encode(Image.fromarray(ramp)))
    assert grey.min() < 3
    assert grey.max() > 252
    assert np.abs(grey[..., 0] - ramp / 257).max() <= 1


def test_palettes_and_grey_become_rgb():
    assert np.abs(read_pixels(encode(PHOTO.quantize(256))) - PIXELS).mean() < 12
    assert read_pixels(encode(PHOTO.convert("L"))).shape == (80, 120, 3)
    assert read_pixels(encode(PHOTO.convert("1"))).shape == (80, 120, 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_become_white(mode):
    layer = PHOTO.convert("RGBA")
    layer.putalpha(Image.fromarray(np.repeat([[0] * 60 + [255] * 60], 80, axis=0).astype(np.uint8)))
    picture = layer.quantize(64) if mode == "P" else layer.convert(mode)
    pixels = read_pixels(encode(picture))
    assert (pixels[:, :58] > 250).all()
    assert pixels[:, 62:].mean() < 200


def test_the_first_frame_of_an_animation_is_read():
    frames = [Image.new("RGB", (60, 40), color) for color in ("red", "blue", "lime")]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.abs(read_pixels(data)[20, 30] - (255, 0, 0)).max() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_exif_orientation_is_made_upright(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    # The transposition with which a camera stores the upright picture.
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
        pixels = read_pixels(data, scale)
        assert pixels.shape == (80 // scale, 120 // scale, 3)
        expected = np.asarray(PHOTO.reduce(scale)).astype(float)
        assert np.abs(pixels - expected).mean() < 12


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(120, 80), (121, 83), (64, 9), (7, 5)])
def test_a_reduced_size_is_rounded_up_as_in_the_header(size, kind, scale):
    data = encode(PHOTO.resize(size), kind)
    if min(size) >= scale:
        assert read_photo(data, scale).size == read_header(data).scaled_size(scale)


def bomb():
    """A picture of 20,000 x 20,000 pixels in a few kilobytes."""
    return encode(Image.new("1", (20_000, 20_000)))


def test_giant_pictures_are_refused_before_they_are_decoded():
    for data in (bomb(), encode(Image.new("1", (12_000, 12_000)))):
        with pytest.raises(PhotoError) as error:
            read_photo(data)
        assert error.value.reason == "too_large"


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
def test_incomplete_pictures_are_refused_as_unreadable(data):
    with pytest.raises(PhotoError) as error:
        read_photo(data)
    assert error.value.reason == "unreadable"


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(PhotoError):
        read_header(tmp_path / "none.jpg")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]), st.data())
def test_damaged_files_raise_only_photo_errors(kind, data):
    content = bytearray(encode(PHOTO, kind))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(PhotoError):
        assert read_photo(bytes(content)).mode == "RGB"


def test_reading_closes_the_file(tmp_path):
    path = tmp_path / "a.png"
    PHOTO.save(path)
    image = read_photo(path)
    path.unlink()
    assert image.getpixel((0, 0)) == tuple(PIXELS[0, 0])
    assert read_photo(encode(PHOTO)).tobytes() == read_photo(io.BytesIO(encode(PHOTO)).getvalue()).tobytes()


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


LONG_TEXT = zlib.compress(b"<x>" + b"b" * 2_000_000 + b"</x>")


@pytest.mark.parametrize("mark", [b"IDAT", b"IEND"])
@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LONG_TEXT),
        png_chunk(b"zTXt", b"Raw profile\0\0" + LONG_TEXT),
        b"".join(png_chunk(b"zTXt", b"many\0\0" + zlib.compress(b"x" * 1_000_000)) for _ in range(70)),
        png_chunk(b"tEXt", b"plain\0" + b"y" * 3_000_000),
    ],
    ids=["iTXt", "zTXt", "many", "tEXt"],
)
def test_long_text_chunks_of_a_png_are_ignored(chunk, mark):
    data = encode(PHOTO)
    at = data.find(mark) - 4
    data = data[:at] + chunk + data[at:]
    assert read_header(data).size == (120, 80)
    assert (read_pixels(data) == PIXELS).all()


def test_a_converted_photo_has_no_profile_so_that_stored_bytes_are_reproducible():
    from jigsaw.tasks.media import colors

    wide = colors.matrix_profile(colors.ADOBE_RGB, 1.0)
    converted = read_photo(encode(PHOTO, icc_profile=wide))
    assert (np.asarray(converted) != PIXELS).any()
    assert "icc_profile" not in converted.info


def test_a_long_colour_profile_of_a_png_is_used():
    from jigsaw.tasks.media import colors

    wide = colors.matrix_profile(colors.ADOBE_RGB, 1.0)
    data = encode(PHOTO)
    assert (read_pixels(encode(PHOTO, icc_profile=wide)) != PIXELS).any()
    # A profile has its length in its header; further bytes are padding.
    padded = png_chunk(b"iCCP", b"wide\0\0" + zlib.compress(wide + bytes(2_000_000)))
    assert (read_pixels(data[:33] + padded + data[33:]) == read_pixels(encode(PHOTO, icc_profile=wide))).all()
    bomb = png_chunk(b"iCCP", b"bomb\0\0" + zlib.compress(bytes(50_000_000)))
    assert (read_pixels(data[:33] + bomb + data[33:]) == PIXELS).all()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF"])
def test_long_metadata_of_other_formats_is_ignored(kind):
    plain = encode(PHOTO, kind, lossless=True) if kind == "WEBP" else encode(PHOTO, kind)
    if kind == "JPEG":
        data = plain[:2] + (b"\xff\xe1\xff\xfe" + b"x" * 65532) * 80 + plain[2:]
    elif kind == "WEBP":
        data = encode(PHOTO, kind, lossless=True, xmp=b"<x>" + b"b" * 5_000_000)
    else:
        data = encode(PHOTO, kind, tiffinfo={700: b"b" * 5_000_000})
    assert len(data) > 4_000_000
    assert (read_pixels(data) == read_pixels(plain)).all()


GREY = np.asarray(PHOTO.convert("L"))


@pytest.mark.parametrize(
    "values",
    [
        (GREY / 255).astype(np.float32),
        GREY.astype(np.uint16) * 257,
        (GREY.astype(np.int32) * 257),
    ],
    ids=["fractions", "16 bits", "16 of 32 bits"],
)
def test_wide_pixel_values_that_fill_their_range_are_scaled(values):
    assert np.abs(read_pixels(encode(Image.fromarray(values), "TIFF"))[..., 0] - GREY).max() <= 1


@pytest.mark.parametrize("maximum", [1023, 4095, 65535])
def test_a_pgm_is_scaled_by_the_maximum_in_its_header(maximum):
    values = (GREY.astype(float) / 255 * maximum).round().astype(">u2")
    data = b"P5 120 80 %d\n" % maximum + values.tobytes()
    assert np.abs(read_pixels(data)[..., 0] - GREY).max() <= 1


def tiff(width, height, bits, strip, photometric=1):
    """A TIFF of one strip, built here because Pillow writes neither 12 bits nor white as zero."""
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height)]
    tags.append((279, len(strip)))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_a_tiff_in_which_white_is_zero_is_inverted():
    strip = (65535 - GREY.astype(int) * 257).astype("<u2").tobytes()
    assert np.abs(read_pixels(tiff(120, 80, 16, strip, photometric=0))[..., 0] - GREY).max() <= 1


def test_12_bit_values_of_a_tiff_are_scaled_by_its_bits_tag():
    values = np.linspace(0, 4095, 16).round().astype(int)
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in values.reshape(-1, 2).tolist())
    assert np.abs(read_pixels(tiff(16, 1, 12, packed))[0, :, 0] - values / 4095 * 255).max() <= 1


def deep_png(bits, channels=3):
    """A PNG of 16-bit colours of which only the lowest `bits` are used."""
    values = (PIXELS.astype(np.uint16) << (bits - 8)).astype(">u2")
    if channels == 4:
        values = np.concatenate([values, np.full((80, 120, 1), 65535)], axis=-1).astype(">u2")
    lines = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 120, 80, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(lines)), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_16_bit_colours_that_fill_their_range_are_scaled():
    assert np.abs(read_pixels(deep_png(16)) - PIXELS).max() <= 1
    assert np.abs(read_pixels(deep_png(16, channels=4)) - PIXELS).max() <= 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encode(Image.fromarray(GREY.astype(np.uint16) * 16), "TIFF"), "16-bit numbers stay below 40"),
        (encode(Image.fromarray(GREY.astype(np.uint16) * 4)), "16-bit numbers stay below 10"),
        (encode(Image.fromarray(GREY.astype(np.int32)), "TIFF"), "32-bit numbers stay below 25"),
        (encode(Image.fromarray(GREY.astype(np.int32) - 100), "TIFF"), "from -100 to"),
        (encode(Image.fromarray(GREY.astype(np.int32) * 1000), "TIFF"), "not from 0 to 65535"),
        (encode(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "not from 0 to 1"),
        (encode(Image.fromarray(np.where(GREY > 99, np.nan, 0.5).astype(np.float32)), "TIFF"), "to nan"),
        (deep_png(12), "16-bit numbers stay below 4096"),
        (deep_png(10, channels=4), "16-bit numbers stay below 1024"),
    ],
)
def test_pixel_values_of_unknown_range_are_refused(data, message):
    with pytest.raises(PhotoError, match=message) as error:
        read_photo(data)
    assert error.value.reason == "unknown_range"
    assert "black and white are unknown" in str(error.value)


def test_a_camera_raw_file_is_refused_instead_of_read_as_its_preview():
    for options in ({254: 1}, {50706: b"\1\4\0\0"}):
        with pytest.raises(PhotoError, match="camera raw"):
            read_photo(encode(PHOTO, "TIFF", tiffinfo=options))


def test_error_messages_are_the_same_in_every_run():
    messages = set()
    for _ in range(2):
        for data in (b"junk", encode(PHOTO)[:-400], encode(PHOTO, "TIFF")[:-400]):
            keep = io.BytesIO(data)  # noqa: F841 - gives the next object another address
            with pytest.raises(PhotoError) as error:
                read_photo(data)
            messages.add(str(error.value))
    assert len(messages) == 3
    assert not any("0x" in message for message in messages)
