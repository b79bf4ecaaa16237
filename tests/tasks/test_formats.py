"""Detection of file formats by their first bytes, and the errors for pictures that cannot be read."""

import importlib.util

import pytest
from PIL import Image
from synthetic_media import encode, photo_pixels

from jigsaw.tasks.media.formats import format_of, head_of
from jigsaw.tasks.media.photos import PhotoError, read_photo

PHOTO = Image.fromarray(photo_pixels(60, 40))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000"])
def test_pictures_that_are_read_are_recognised(kind):
    assert format_of(encode(PHOTO, kind)).kind == "image"


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "HEIC is not read by this Pillow; convert it or install"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(99), "HEIC is not read by this Pillow"),
        (b"\xff\x0a" + bytes(99), "JPEG XL is not read by this Pillow; convert it or install pillow-jxl-plugin"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), "JPEG XL is not read by this Pillow"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomiso2" + bytes(99), "not a picture: the content has the format video (mp4)"),
        (b"<!DOCTYPE html><title>404</title>", "not a picture: the content has the format HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"%PDF-1.7\n", "not a picture: the content has the format PDF"),
        (b"8BPS\0\1", "not a picture: the content has the format Photoshop"),
        (b"v/1\1" + bytes(99), "not a picture: the content has the format OpenEXR"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(99), "camera raw"),
        (b"", "the file is empty"),
        (b"some words about nothing", "no known picture format"),
    ],
)
def test_the_error_for_an_unreadable_file_names_its_format(head, message, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # no plug-in of Pillow is installed
    with pytest.raises(PhotoError) as of_bytes:
        read_photo(head)
    assert message in str(of_bytes.value)
    (tmp_path / "photo.jpg").write_bytes(head)  # the suffix is ignored
    with pytest.raises(PhotoError) as of_file:
        read_photo(tmp_path / "photo.jpg")
    assert str(of_file.value) == str(of_bytes.value)
    assert of_file.value.reason == "unreadable"


def test_the_error_for_a_damaged_file_names_the_format_of_the_plugin():
    pytest.importorskip("pillow_heif")
    with pytest.raises(PhotoError, match="the HEIC file is damaged"):
        read_photo(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))


def test_text_and_other_data_are_not_detected_as_pictures():
    for head in (b"BM is short for bitmap, says this text", b"P5", b"P9 \n", b"RIFF\0\0\0\0WAVEfmt ", b"\0" * 4096):
        assert format_of(head) is None


def test_the_head_of_a_file_equals_the_head_of_its_bytes(tmp_path):
    data = encode(PHOTO)
    (tmp_path / "a.png").write_bytes(data)
    assert head_of(tmp_path / "a.png") == head_of(data)
