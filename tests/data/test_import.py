"""`jigsaw import visual-jigsaw`: rows in the authors' format become puzzles with a newly sampled order."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from synthetic_media import encode, photo_pixels, write_video

from jigsaw.data import check_puzzles, import_puzzles, load_puzzles, preview_puzzles, read_manifest
from jigsaw.errors import JigsawError

TILES = "\n".join(f"Tile {n}: <image>" for n in range(1, 5))


def write(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def image_row(path, resize=(200, 120), crop=(180, 100), text="Give the order in \\boxed{}.", source="image_jigsaw"):
    media_fields = {"path": path, "resize_size": list(resize), "crop_size": list(crop), "jigsaw_config": [2, 2]}
    return {
        "data_source": source,
        "prompt": [{"role": "user", "content": f"{TILES}\n{text}"}],
        "images": [media_fields],
        "reward_model": {"ground_truth": "ignored", "style": "rule"},
        "extra_info": {"index": 0},
    }


@pytest.fixture
def media(tmp_path):
    root = tmp_path / "media"
    (root / "coco").mkdir(parents=True)
    for number in range(3):
        data = encode(Image.fromarray(photo_pixels(320, 240, seed=number)))
        (root / "coco" / f"{number}.png").write_bytes(data)
    return root


def test_image_rows_become_puzzles_of_the_resized_and_cropped_photo(media, tmp_path):
    rows = [image_row(f"coco/{n}.png") for n in (0, 1, 2)]
    rows += [image_row("coco/0.png"), image_row("coco/gone.png"), image_row("coco/1.png", crop=(999, 999))]
    write(tmp_path / "a.parquet", rows)
    summary = import_puzzles("visual-jigsaw", tmp_path / "a.parquet", tmp_path / "set", media_root=media, workers=2)
    assert summary.counts.puzzles == 4
    assert summary.counts.rejects == {"too_small": 1, "unreadable": 1}
    loaded = load_puzzles(tmp_path / "set")
    assert len(loaded) == 4, "two rows of one photo are two puzzles"
    for row in loaded:
        assert row["answer_style"] == "boxed"
        assert "Give the order" in row["prompt"][0]["content"][-1]["text"]
        number = int(row["source"]["path"][5])
        small = Image.fromarray(photo_pixels(320, 240, seed=number)).resize((200, 120), Image.Resampling.BICUBIC)
        tiles = [np.asarray(row["images"][index - 1]) for index in row["answer"]]
        again = np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])
        assert np.array_equal(again, np.asarray(small)[10:110, 10:190])
    assert check_puzzles(tmp_path / "set").ok
    assert preview_puzzles(tmp_path / "set", tmp_path / "p.html").exists()
    assert read_manifest(tmp_path / "set").settings.imported == "visual-jigsaw"


def test_nested_and_missing_sizes_and_answer_styles_are_read(media, tmp_path):
    nested = image_row("coco/0.png", source="jigsaw_nothink")
    nested["images"][0] |= {"path": ["coco/0.png"], "resize_size": [[100, 80]], "crop_size": [[-1, -1]]}
    write(tmp_path / "a.parquet", [nested])
    write(tmp_path / "b.parquet", [image_row("coco/1.png", (-1, -1), (-1, -1), "Use <answer></answer>.")])
    for name, style, size in (("a", "direct", (50, 40)), ("b", "think", (160, 120))):
        import_puzzles("visual-jigsaw", tmp_path / f"{name}.parquet", tmp_path / name, media_root=media, workers=1)
        row = load_puzzles(tmp_path / name)[0]
        assert (row["answer_style"], row["images"][0].size) == (style, size)


def test_depth_rows_keep_their_points_in_order_of_depth(media, tmp_path):
    points = [[40, 60], [200, 300], [120, 160], [220, 20]]
    media_fields = {"path": "coco/0.png", "points": points, "resize_size": [160, 120]}
    row = {
        "data_source": "depth_jigsaw",
        "prompt": [{"role": "user", "content": "<image> Order."}],
        "images": [media_fields],
    }
    write(tmp_path / "a.parquet", [row])
    import_puzzles("visual-jigsaw", tmp_path, tmp_path / "set", media_root=media, workers=1)
    (loaded,) = load_puzzles(tmp_path / "set")
    assert loaded["geometry"]["points"] == [[30, 20], [150, 100], [80, 60], [10, 110]]
    assert loaded["images"][0].size == (160, 120)
    assert check_puzzles(tmp_path / "set", workers=1).ok
    assert preview_puzzles(tmp_path / "set", tmp_path / "p.html").exists()


def test_video_rows_are_cut_by_their_settings(media, tmp_path):
    write_video(media / "v.mp4")
    media_fields = {"path": "v.mp4", "jigsaw_clip_num": 3, "fps": 2, "fps_max_frames": 4, "max_pixels": 100352}
    prompt = [{"role": "user", "content": "Clip 1: <video> Clip 2: <video> Clip 3: <video> Order."}]
    write(tmp_path / "a.parquet", [{"data_source": "video_jigsaw", "prompt": prompt, "videos": [media_fields]}])
    import_puzzles("visual-jigsaw", tmp_path / "a.parquet", tmp_path / "set", media_root=media, workers=1)
    (row,) = load_puzzles(tmp_path / "set")
    clips = [row["videos"][index - 1] for index in row["answer"]]
    assert [len(clip.frames) for clip in clips] == [4, 4, 4]
    assert (np.diff([clip.times[0] for clip in clips]) > 0).all()
    assert row["geometry"]["spans"][0] == pytest.approx([0.4, 3.6])


def test_mixed_files_need_only_to_choose_one_task(media, tmp_path):
    depth = {
        "data_source": "depth_jigsaw",
        "prompt": [{"role": "user", "content": "<image>"}],
        "images": [{"path": "coco/0.png", "points": [[1, 1], [50, 50]]}],
    }
    write(tmp_path / "a.parquet", [image_row("coco/1.png")])
    write(tmp_path / "b.parquet", [depth])
    with pytest.raises(JigsawError, match="1 depth, 1 image; a data set has one task"):
        import_puzzles("visual-jigsaw", tmp_path, tmp_path / "set", media_root=media)
    summary = import_puzzles("visual-jigsaw", tmp_path, tmp_path / "set", media_root=media, only="image", workers=1)
    assert summary.counts.puzzles == 1
    with pytest.raises(JigsawError, match="has no video puzzles"):
        import_puzzles("visual-jigsaw", tmp_path, tmp_path / "other", media_root=media, only="video")


def test_a_folder_with_files_is_refused_and_an_interrupted_import_restarts(media, tmp_path):
    write(tmp_path / "a.parquet", [image_row("coco/1.png")])
    import_puzzles("visual-jigsaw", tmp_path / "a.parquet", tmp_path / "set", media_root=media, workers=1)
    with pytest.raises(JigsawError, match="is not empty"):
        import_puzzles("visual-jigsaw", tmp_path / "a.parquet", tmp_path / "set", media_root=media)
    manifest = tmp_path / "set" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"complete": true', '"complete": false'))
    assert (
        import_puzzles(
            "visual-jigsaw", tmp_path / "a.parquet", tmp_path / "set", media_root=media, workers=1
        ).counts.puzzles
        == 1
    )


def test_an_unfinished_set_of_another_import_is_refused_and_unchanged(media, tmp_path):
    write(tmp_path / "a.parquet", [image_row("coco/1.png")])
    folder = tmp_path / "set"
    import_puzzles("visual-jigsaw", tmp_path / "a.parquet", folder, media_root=media, workers=1)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"complete": true', '"complete": false'))
    before = sorted(file.name for file in folder.iterdir())
    with pytest.raises(JigsawError, match="is not empty"):
        import_puzzles("visual-jigsaw", tmp_path / "a.parquet", folder, media_root=media, seed=1, workers=1)
    assert sorted(file.name for file in folder.iterdir()) == before
    manifest.write_text("{")
    with pytest.raises(JigsawError, match=r"manifest\.json is not JSON"):
        import_puzzles("visual-jigsaw", tmp_path / "a.parquet", folder, media_root=media, workers=1)


def test_files_that_cannot_be_imported_are_refused(media, tmp_path):
    write(tmp_path / "a.parquet", [{"x": 1}])
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    write(tmp_path / "c.parquet", [image_row("coco/nowhere.png")])
    for form, name, message in (
        ("verl", "a.parquet", "unknown format"),
        ("visual-jigsaw", "a.parquet", "lacks the columns"),
        ("visual-jigsaw", "b.parquet", "cannot be read"),
        ("visual-jigsaw", "d.parquet", "no Parquet file"),
        (
            "visual-jigsaw",
            "c.parquet",
            "none of the 1 rows could be imported: the file cannot be read as a picture \\(1\\)",
        ),
    ):
        with pytest.raises(JigsawError, match=message) as error:
            import_puzzles(form, tmp_path / name, tmp_path / f"set {name}", media_root=media)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("images", [["coco/0.png"], [None], "coco/0.png", [{"path": 7}], [{"path": ["a", "b"]}]])
def test_a_row_that_names_its_media_in_another_format_is_a_reject(media, tmp_path, images):
    write(tmp_path / "a.parquet", [image_row("coco/0.png")])
    write(tmp_path / "b.parquet", [image_row("coco/0.png") | {"images": images}])
    (tmp_path / "both").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"{name}.parquet").rename(tmp_path / "both" / f"{name}.parquet")
    out = tmp_path / "set"
    summary = import_puzzles("visual-jigsaw", tmp_path / "both", out, media_root=media, workers=1)
    assert (summary.counts.puzzles, summary.counts.rejects) == (1, {"unreadable": 1})
    (reject,) = map(json.loads, (out / "rejects.jsonl").read_text().splitlines())
    assert reject["row"] == 1
    assert reject["detail"].startswith("the row names no file: images needs")


FAULTY_ROWS = [  # the change of a valid row, and the reason and the detail of its reject
    ({"prompt": [{"role": "user", "content": "<image>" * 2}]}, "placeholders", "has 2 image placeholders, the puzzle"),
    ({"prompt": [{"role": "user", "content": "<image>" * 5}]}, "placeholders", "has 5 image placeholders"),
    ({"prompt": [{"role": "user", "content": "Order."}]}, "placeholders", "has no placeholders"),
    ({"prompt": [{"role": "user", "content": "<image>" * 4 + "<video>"}]}, "placeholders", "has 4 image, 1 video"),
    (
        {"images": image_row("coco/0.png")["images"] * 2},
        "placeholders",
        "the row has 2 images; a puzzle uses one",
    ),
    ({"audios": ["a.wav"]}, "placeholders", "the row has `audios` in addition to the images of its puzzle"),
    ({"prompt": [{"role": "user", "content": None}]}, "failed", "turn 1 of the prompt has no role, or no text"),
    ({"prompt": []}, "failed", "the prompt is []"),
]


def test_rows_whose_media_do_not_match_their_placeholders_are_rejects(media, tmp_path):
    rows = [
        image_row("coco/0.png") | {"audios": None},
        *(image_row("coco/1.png") | change for change, _, _ in FAULTY_ROWS),
    ]
    write(tmp_path / "a.parquet", [*rows, image_row("coco/2.png")])
    out = tmp_path / "set"
    summary = import_puzzles("visual-jigsaw", tmp_path / "a.parquet", out, media_root=media, workers=1)
    assert (summary.counts.puzzles, summary.counts.sources) == (2, len(FAULTY_ROWS) + 2)
    rejects = [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]
    assert [reject["row"] for reject in rejects] == list(range(1, len(FAULTY_ROWS) + 1))
    for reject, (_, reason, expected) in zip(rejects, FAULTY_ROWS, strict=True):
        assert reject["reason"] == reason
        assert expected in reject["detail"]
    assert len(load_puzzles(out)) == 2
