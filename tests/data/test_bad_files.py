"""Builds from folders with damaged and unusual files: each file gives a puzzle or a reject with a reason."""

import json

import numpy as np
import pytest
from PIL import Image
from synthetic_media import encode, number_in, numbered_frame, orient, photo_pixels, write_sound, write_video

from jigsaw.data import build_puzzles, check_puzzles, load_puzzles

PHOTO = Image.fromarray(photo_pixels(240, 180))


def reasons_of(out):
    lines = [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]
    return {line["source"]: line["reason"] for line in lines}


def rotated_photo():
    exif = Image.Exif()
    exif[0x0112] = 8
    return encode(PHOTO, "JPEG", exif=exif.tobytes())


def photo_files():
    frames = [Image.fromarray(photo_pixels(240, 180, seed=n)) for n in range(3)]
    grey = Image.fromarray(np.asarray(PHOTO.convert("L")).astype(np.uint16) * 257)
    transparent = PHOTO.convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize(PHOTO.size))
    good = {
        "cmyk.jpg": encode(PHOTO.convert("CMYK"), "JPEG"),
        "sixteen.png": encode(grey),
        "palette.png": encode(PHOTO.quantize(256)),
        "transparent.png": encode(transparent),
        "animated.gif": encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "turned.jpg": rotated_photo(),
        "named.jpg": encode(PHOTO),  # a PNG with another suffix
        "tall.webp": encode(PHOTO.rotate(90, expand=True), "WEBP"),
    }
    bad = {
        "cut.jpg": (encode(PHOTO, "JPEG")[:-2000], "unreadable"),
        "cut.png": (encode(PHOTO)[:-2000], "unreadable"),
        "empty.jpg": (b"", "unreadable"),
        "text.jpg": (b"hello", "unreadable"),
        "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "unreadable"),
        "dot.png": (encode(Image.new("RGB", (1, 1))), "too_small"),
        "giant.png": (encode(Image.new("1", (20_000, 20_000))), "too_large"),
        "blank.png": (encode(Image.new("RGB", (300, 300), "white")), "ambiguous"),
    }
    return good, bad


def test_bad_photos_are_rejected_with_a_reason_and_good_ones_give_puzzles(tmp_path):
    good, bad = photo_files()
    root = tmp_path / "photos"
    root.mkdir()
    for name, data in good.items():
        (root / name).write_bytes(data)
    for name, (data, _) in bad.items():
        (root / name).write_bytes(data)
    (root / "copy.jpg").write_bytes(good["cmyk.jpg"])
    build_puzzles("image", root, tmp_path / "set", config={"flat_tolerance": 2}, workers=2, time_limit=60)
    assert reasons_of(tmp_path / "set") == {name: reason for name, (_, reason) in bad.items()}
    rows = load_puzzles(tmp_path / "set")
    paths = {row["source"]["path"] for row in rows}
    assert paths | {"copy.jpg", "cmyk.jpg"} == {*good, "copy.jpg"}, "all good photos, and one of the two copies"
    assert all(len(row["images"]) == 9 for row in rows)


def test_bad_videos_are_rejected_with_a_reason_and_good_ones_give_puzzles(tmp_path):
    root = tmp_path / "videos"
    root.mkdir()
    good_video = write_video(root / "good.mp4")
    write_video(root / "turned.mp4", quarter_turns=1)
    write_video(root / "uneven.mkv", gaps=[20, 180])
    write_video(root / "old.avi", codec="mpeg4", options={"bf": "2", "b": "2000000"})
    recording = {"frames": 60, "form": "mpegts", "options": {"bf": "2", "crf": "12"}}
    second = write_video(
        tmp_path / "second", picture=lambda number, size: numbered_frame(60 + number, size), **recording
    )
    with write_video(root / "recorded.ts", **recording).open("ab") as recording_file:
        recording_file.write(second.read_bytes())
    orient(write_video(root / "mirrored.mp4"), (-1, 0, 0, 1))
    data = good_video.read_bytes()
    (root / "cut.mp4").write_bytes(data[: len(data) // 2])
    (root / "empty.mp4").write_bytes(b"")
    (root / "text.mov").write_text("hello")
    write_sound(root / "sound.mp4")
    write_video(root / "one.mp4", frames=1)
    write_video(root / "still.mp4", picture=lambda number, size: np.full((size[1], size[0], 3), 90, np.uint8))
    build_puzzles("video", root, tmp_path / "set", config={"min_duration": 2}, workers=2, time_limit=60)
    reasons = reasons_of(tmp_path / "set")
    assert {name: reasons.get(name) for name in ("sound.mp4", "one.mp4", "still.mp4")} == {
        "sound.mp4": "no_video",
        "one.mp4": "too_short",
        "still.mp4": "static",
    }
    assert {name for name, reason in reasons.items() if reason == "unreadable"} == {"cut.mp4", "empty.mp4", "text.mov"}
    rows = load_puzzles(tmp_path / "set")
    good = {"good.mp4", "turned.mp4", "mirrored.mp4", "uneven.mkv", "old.avi", "recorded.ts"}
    assert {row["source"]["path"] for row in rows} == good
    for row in rows:
        in_time = [row["videos"][shown - 1] for shown in row["answer"]]
        times = [time for clip in in_time for time in clip.times]
        assert times == sorted(times)
        if row["source"]["path"] in ("good.mp4", "old.avi", "recorded.ts"):
            numbers = [number_in(frame) for clip in in_time for frame in clip.frames]
            assert numbers == [round(time * 10) for time in times]
    assert check_puzzles(tmp_path / "set").ok
    assert all([len(clip.frames) for clip in row["videos"]] == [4] * 6 for row in rows)


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
def test_stored_clips_equal_the_rendered_ones(tmp_path, decoder):
    if decoder == "decord":
        pytest.importorskip("decord")
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mp4")
    config = {"min_duration": 2, "decoder": decoder, "clips": 3}
    for name, materialize in {"lazy": False, "stored": True}.items():
        build_puzzles(
            "video", tmp_path / "videos", tmp_path / name, config=config, per_source=2, materialize=materialize
        )
    stored = {row["id"]: row for row in load_puzzles(tmp_path / "stored")}
    for row in load_puzzles(tmp_path / "lazy"):
        for clip, stored_clip in zip(row["videos"], stored[row["id"]]["videos"], strict=True):
            assert np.array_equal(clip.frames, stored_clip.frames)
            assert np.array_equal(clip.times, stored_clip.times)
            assert clip.fps == stored_clip.fps


def test_bad_depth_maps_are_rejected_with_a_reason_and_good_ones_give_puzzles(tmp_path):
    root = tmp_path / "frames"
    (root / "color").mkdir(parents=True)
    (root / "depth").mkdir()
    good = np.tile(np.linspace(1000, 6000, 240), (180, 1)).astype(np.uint16)
    maps = {
        "good": (encode(Image.fromarray(good)), None),
        "missing": (encode(Image.fromarray(good * 0)), "no_depth"),
        "other_shape": (encode(Image.fromarray(good[:, :90])), "size_mismatch"),
        "far": (encode(Image.fromarray(np.full_like(good, 60_000))), "out_of_range"),
        "broken": (b"nothing", "bad_depth"),
        "alone": (None, "no_depth"),
    }
    for seed, (name, (data, _)) in enumerate(maps.items()):
        (root / "color" / f"{name}.jpg").write_bytes(encode(Image.fromarray(photo_pixels(240, 180, seed=seed)), "JPEG"))
        if data is not None:
            (root / "depth" / f"{name}.png").write_bytes(data)
    build_puzzles("depth", root, tmp_path / "set", config={"points": 4}, workers=1)
    reasons = {path.split("/")[1].split(".")[0]: reason for path, reason in reasons_of(tmp_path / "set").items()}
    assert reasons == {name: reason for name, (_, reason) in maps.items() if reason}
    assert len(load_puzzles(tmp_path / "set")) == 1
