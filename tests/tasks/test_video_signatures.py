"""Detection of video containers by their first bytes."""

import pytest
from PIL import Image
from synthetic_media import encode, write_sound, write_video

from jigsaw.tasks.media.video_signatures import HEAD_BYTES, video_container

FORMS = {
    "mp4": ("mp4", "libx264"),
    "mov": ("mp4", "libx264"),
    "f4v": ("mp4", "libx264"),
    "3gp": ("mp4", "libx264"),
    "matroska": ("matroska", "libx264"),
    "webm": ("matroska", "libvpx"),
    "avi": ("avi", "mpeg4"),
    "mpegts": ("mpegts", "libx264"),
    "vob": ("mpeg", "mpeg2video"),
    "mpeg": ("mpeg", "mpeg2video"),
    "mpeg2video": ("mpegvideo", "mpeg2video"),
    "flv": ("flv", "libx264"),
    "asf": ("asf", "msmpeg4"),
}


@pytest.mark.parametrize("form", FORMS)
def test_containers_are_recognised_without_a_suffix(tmp_path, form):
    container, codec = FORMS[form]
    path = write_video(tmp_path / "unnamed", frames=25, rate=25, size=(64, 48), codec=codec, form=form)
    assert video_container(path.read_bytes()[:HEAD_BYTES]) == container


def test_transport_streams_with_other_packet_sizes_are_recognised(tmp_path):
    data = write_video(tmp_path / "a.ts", frames=20, size=(64, 48), codec="mpeg4", form="mpegts").read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    assert video_container(b"".join(bytes(4) + packet for packet in packets)[:HEAD_BYTES]) == "mpegts"
    assert video_container(data[100 : 100 + HEAD_BYTES]) == "mpegts", "cut within a packet"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"G" * 3,
        b"text that begins like nothing in particular",
        b"RIFF\x00\x00\x00\x00WAVEfmt ",
        b"RIFF\x00\x00\x00\x00WEBPVP8 ",
        b"OggS\x00\x02" + bytes(22) + b"\x01vorbis",
        b"ID3\x04" + bytes(100),
        b"\x00\x00\x00\x1cftypavif" + bytes(40),
        b"\x00\x00\x00\x1cftypM4A " + bytes(40),
        b"PK\x03\x04" + bytes(100),
        bytes(HEAD_BYTES),
    ],
)
def test_other_files_are_not_recognised_as_videos(head):
    assert video_container(head) is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_pictures_are_not_recognised_as_videos(kind):
    assert video_container(encode(Image.new("RGB", (64, 64), (71, 71, 71)), kind)[:HEAD_BYTES]) is None


def test_ogg_with_video_is_distinguished_from_ogg_with_sound(tmp_path):
    assert video_container(b"OggS\x00\x02" + bytes(22) + b"\x80theora\x03\x02\x01") == "ogg"
    assert video_container(write_sound(tmp_path / "a.mp4").read_bytes()[:HEAD_BYTES]) == "mp4", (
        "the streams are checked when the file is opened"
    )
