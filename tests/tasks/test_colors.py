"""Colour management: pictures of any colour profile are converted to sRGB, and sRGB pictures keep their pixels.

Expected pixels are computed with numpy from the definition of the colour space, not with the library under test.
"""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms
from synthetic_media import encode, photo_pixels

from jigsaw.tasks.media import colors
from jigsaw.tasks.media.photos import PhotoError, read_photo

PIXELS = photo_pixels(96, 64)
PHOTO = Image.fromarray(PIXELS)
D65 = (0.3127, 0.3290)

SPACES = {  # white, primaries, exponent (None: the curve of sRGB)
    "Display P3": ((*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06), None),
    "Adobe RGB": ((*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), 563 / 256),
    "ProPhoto": ((0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001), 1.8),
    "linear light": ((*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06), 1.0),
}


def xyz_matrix(points):
    """RGB to XYZ, from white and primaries (Lindbloom), adapted to D50 (Bradford)."""
    white, red, green, blue = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in np.reshape(points, (4, 2)))
    columns = np.stack([red, green, blue], axis=1)
    columns = columns * np.linalg.inv(columns).dot(white)
    cone = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    gain = np.diag(cone.dot([0.96422, 1.0, 0.82521]) / cone.dot(white))
    return np.linalg.inv(cone).dot(gain).dot(cone).dot(columns)


SRGB_MATRIX = xyz_matrix((*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06))


def srgb_of_xyz(xyz):
    light = np.clip(xyz @ np.linalg.inv(SRGB_MATRIX).T, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def linear(stored, gamma):
    if gamma is not None:
        return stored**gamma
    return np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)


def to_srgb(pixels, space):
    """sRGB values of pixels in a colour space, by its definition."""
    points, gamma = SPACES[space]
    return srgb_of_xyz(linear(pixels / 255, gamma) @ xyz_matrix(points).T)


def profile(space):
    return colors.matrix_profile(*SPACES[space])


def read_pixels(data, scale=1):
    return np.asarray(read_photo(data, scale)).astype(float)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunks(png, *extra):
    """A PNG with additional chunks after its header."""
    return png[:33] + b"".join(extra) + png[33:]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF"])
def test_a_picture_with_a_profile_is_converted_to_srgb(kind, space):
    options = {"quality": 100} | ({"lossless": True} if kind == "WEBP" else {"subsampling": "4:4:4"})
    data = encode(PHOTO, kind, icc_profile=profile(space), **(options if kind != "TIFF" else {}))
    stored = encode(PHOTO, kind, **(options if kind != "TIFF" else {}))
    expected = to_srgb(read_pixels(stored), space)
    assert np.abs(read_pixels(data) - expected).mean() < 1
    assert np.abs(read_pixels(stored) - expected).mean() > 5


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_colours_are_converted_before_they_are_blended_with_white(mode):
    layer = PHOTO.convert("RGBA")
    layer.putalpha(128 if mode == "RGBA" else 255)
    picture = layer if mode == "RGBA" else PHOTO.quantize(256)
    stored = np.asarray(picture.convert("RGB")).astype(float)
    expected = to_srgb(stored, "Adobe RGB")
    if mode == "RGBA":
        expected = expected * 128 / 255 + 127
    assert np.abs(read_pixels(encode(picture, icc_profile=profile("Adobe RGB"))) - expected).mean() < 1


def test_a_picture_read_at_a_fraction_of_its_size_has_the_same_colours():
    for kind in ("PNG", "JPEG"):
        data = encode(PHOTO, kind, icc_profile=profile("ProPhoto"))
        reduced = np.asarray(read_photo(data).reduce(2)).astype(float)
        assert np.abs(read_pixels(data, 2) - reduced).mean() < 4


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_pixels_with_any_srgb_profile_are_kept(kind):
    plain = read_pixels(encode(PHOTO, kind))
    named = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for icc in (named, colors.matrix_profile(colors.SRGB, None)):
        assert (read_pixels(encode(PHOTO, kind, icc_profile=icc)) == plain).all()


def test_pixels_of_a_png_with_srgb_gamma_and_primaries_are_kept():
    gamma = chunk(b"gAMA", struct.pack(">I", 45455))
    primaries = chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))
    rendering = chunk(b"sRGB", b"\0")
    wild = chunk(b"gAMA", struct.pack(">I", 100000))
    for extra in ([gamma], [gamma, primaries], [primaries], [rendering, wild]):
        assert (read_pixels(with_chunks(encode(PHOTO), *extra)) == PIXELS).all()


def test_gamma_and_primaries_of_a_png_are_used():
    linear_light = with_chunks(encode(PHOTO), chunk(b"gAMA", struct.pack(">I", 100000)))
    assert np.abs(read_pixels(linear_light) - to_srgb(PIXELS, "linear light")).mean() < 1
    points = [round(100000 * value) for value in SPACES["Display P3"][0]]
    p3 = with_chunks(encode(PHOTO), chunk(b"cHRM", struct.pack(">8I", *points)))
    assert np.abs(read_pixels(p3) - to_srgb(PIXELS, "Display P3")).mean() < 1


def test_colour_code_points_of_a_png_are_used():
    p3 = with_chunks(encode(PHOTO), chunk(b"cICP", bytes([12, 13, 0, 1])))
    assert np.abs(read_pixels(p3) - to_srgb(PIXELS, "Display P3")).mean() < 1
    assert (read_pixels(with_chunks(encode(PHOTO), chunk(b"cICP", bytes([1, 13, 0, 1])))) == PIXELS).all()
    with pytest.raises(PhotoError, match="HDR picture \\(PQ\\)") as error:
        read_photo(with_chunks(encode(PHOTO), chunk(b"cICP", bytes([9, 16, 0, 1]))))
    assert error.value.reason == "unknown_range"


def test_colour_code_points_of_an_avif_are_used():
    data = encode(PHOTO, "AVIF", quality=100, subsampling="4:4:4")
    at = data.index(b"colrnclx") + 8
    p3 = data[:at] + struct.pack(">HH", 12, 13) + data[at + 4 :]
    assert np.abs(read_pixels(p3) - to_srgb(read_pixels(data), "Display P3")).mean() < 1


def test_adobe_rgb_of_a_camera_without_a_profile_is_recognised():
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 0xFFFF, 0xA005: {1: "R03"}}
    data = encode(PHOTO, "JPEG", quality=100, subsampling=0, exif=exif.tobytes())
    stored = read_pixels(encode(PHOTO, "JPEG", quality=100, subsampling=0))
    assert np.abs(read_pixels(data) - to_srgb(stored, "Adobe RGB")).mean() < 1


def lab_of(pixels):
    xyz = linear(pixels / 255, None) @ SRGB_MATRIX.T / [0.96422, 1.0, 0.82521]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    lightness, a, b = 116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])
    # 8 bits of lightness, and a and b as signed bytes: what a TIFF with photometric interpretation CIELab holds.
    return np.stack([np.round(lightness * 2.55), np.round(a), np.round(b)], axis=-1).astype(np.int16).astype(np.uint8)


def test_lab_pictures_are_converted_to_srgb():
    lab = Image.fromarray(lab_of(PIXELS), mode="LAB")
    assert np.abs(read_pixels(encode(lab, "TIFF")) - PIXELS).mean() < 2


def grey_profile(gamma):
    """An ICC profile for grey pixels with an exponent."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    begin = 132 + 24
    table = struct.pack(">I4sII4sII", 2, b"wtpt", begin, len(white), b"kTRC", begin + len(white), len(curve))
    size = begin + len(white) + len(curve)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + white + curve


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_pictures_are_converted_by_their_grey_profile(mode):
    ramp = np.tile(np.linspace(0, 255, 96).round().astype(np.uint8), (64, 1))
    light = ramp / 255
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    grey = Image.fromarray(ramp.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(ramp).convert(mode)
    got = read_pixels(encode(grey, icc_profile=grey_profile(1.0)))[..., 0]
    assert np.abs(got - expected).mean() < 1.5


def test_a_grey_picture_with_an_rgb_profile_has_equal_red_green_and_blue():
    grey = np.asarray(PHOTO.convert("L"))
    data = encode(Image.fromarray(grey), "JPEG", quality=100, icc_profile=profile("ProPhoto"))
    assert np.abs(read_pixels(data) - to_srgb(np.stack([grey] * 3, axis=-1), "ProPhoto")).mean() < 2


@pytest.mark.parametrize(
    "icc",
    [
        b"no profile",
        profile("ProPhoto")[:200],
        bytes(300),
        grey_profile(1.0),  # the pixels are not grey
        profile("ProPhoto").replace(b"RGB ", b"CMYK", 1),
    ],
)
def test_an_invalid_or_unsuitable_profile_is_ignored_as_in_browsers(icc):
    assert (read_pixels(encode(PHOTO, icc_profile=icc)) == PIXELS).all()
    cmyk = PHOTO.convert("CMYK")
    assert (
        read_pixels(encode(cmyk, "TIFF", icc_profile=profile("ProPhoto"))) == read_pixels(encode(cmyk, "TIFF"))
    ).all()


def test_a_profile_is_opened_once_for_many_pictures(monkeypatch):
    opened = []
    real = ImageCms.ImageCmsProfile
    monkeypatch.setattr(ImageCms, "ImageCmsProfile", lambda data: (opened.append(1), real(data))[1])
    icc = profile("Display P3") + b"\0" * 4
    for _ in range(5):
        read_photo(encode(PHOTO, icc_profile=icc))
    assert len(opened) == 1


def test_plain_pictures_are_not_converted(monkeypatch):
    monkeypatch.setattr(ImageCms, "applyTransform", None)
    for kind in ("JPEG", "PNG", "GIF", "BMP"):
        assert read_photo(encode(PHOTO, kind)).mode == "RGB"
    assert read_photo(io.BytesIO(encode(PHOTO)).getvalue()).size == PHOTO.size
