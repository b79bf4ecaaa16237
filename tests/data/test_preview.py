"""`jigsaw preview`: a self-contained page in which file names and prompts are escaped."""

import base64
import io
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from synthetic_media import encode, photo_pixels, write_video

from jigsaw.data import build_puzzles, preview_puzzles
from jigsaw.errors import JigsawError

CONFIG = {"grid": "2x2"}


@pytest.fixture
def built(photos, tmp_path):
    build_puzzles("image", photos, tmp_path / "set", config=CONFIG, workers=1)
    return tmp_path / "set"


def pictures(page):
    return [
        Image.open(io.BytesIO(base64.b64decode(data)))
        for data in re.findall(r'src="data:image/(?:png|jpeg);base64,([^"]+)"', page)
    ]


def test_a_page_contains_every_picture_and_requests_nothing(built, tmp_path):
    page = preview_puzzles(built, tmp_path / "sub" / "p.html", count=5).read_text(encoding="utf-8")
    assert page.count("<article") == 5
    assert len(pictures(page)) == 5 * (4 + 1 + 1)
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r'"data:[^"]*"', "", page))
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "5 of 12 puzzles" in page


def test_names_and_prompts_are_escaped(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    name = '<img src=x onerror="alert(1)">&.png'
    (root / name).write_bytes(encode(Image.fromarray(photo_pixels(160, 120))))
    build_puzzles("image", root, tmp_path / "set", config=CONFIG, workers=1)
    page = preview_puzzles(tmp_path / "set", tmp_path / "p.html").read_text()
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=&#34;alert(1)&#34;&gt;&amp;.png" in page
    assert "&lt;image&gt;" in page, "the placeholders of the prompt are shown"


def test_the_solved_picture_is_the_photo(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    pixels = photo_pixels(160, 160)
    (root / "a.png").write_bytes(encode(Image.fromarray(pixels)))
    build_puzzles("image", root, tmp_path / "set", config=CONFIG, workers=1)
    page = preview_puzzles(tmp_path / "set", tmp_path / "p.html").read_text()
    solved = np.asarray(pictures(page)[4].convert("RGB").resize((160, 160))).astype(int)
    assert np.abs(solved - pixels).mean() < 8


def test_clips_depth_maps_and_composites_are_previewed(tmp_path):
    (tmp_path / "v").mkdir()
    write_video(tmp_path / "v" / "a.mp4")
    depth = np.tile(np.linspace(1, 6, 320, dtype=np.float32), (240, 1))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "color.png").write_bytes(encode(Image.fromarray(photo_pixels(320, 240))))
    np.save(tmp_path / "d" / "depth.npy", depth)
    sets = {
        "clips": ("video", "v", {"min_duration": 1}),
        "frames": ("video", "v", {"min_duration": 1, "shown_as": "images"}),
        "points": ("depth", "d", {}),
        "sheet": ("image", "d", {"layout": "composite"}),
    }
    for name, (task, source, config) in sets.items():
        build_puzzles(task, tmp_path / source, tmp_path / name, config=config, workers=1)
    page = preview_puzzles([tmp_path / name for name in sets], tmp_path / "p.html").read_text()
    assert page.count("<article") == 4
    assert "Nearest first: point" in page
    assert all(f'value="{kind}"' in page for kind in ("depth", "image", "video")), "filters"


def test_a_stored_set_is_previewed_without_its_sources(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    build_puzzles("image", tmp_path / "photos", tmp_path / "set", config=CONFIG, workers=1, materialize=True)
    shutil.rmtree(tmp_path / "photos")
    page = preview_puzzles(tmp_path / "set", tmp_path / "p.html", count=2).read_text()
    assert len(pictures(page)) == 2 * 5
    assert "The source cannot be shown" in page


def test_a_page_that_cannot_be_written_is_an_error(built, tmp_path):
    with pytest.raises(JigsawError, match="count"):
        preview_puzzles(built, tmp_path / "p.html", count=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(JigsawError, match="cannot be written"):
        preview_puzzles(built, tmp_path / "file" / "p.html")
    with pytest.raises(JigsawError, match="is not a folder"):
        preview_puzzles(tmp_path / "nowhere", tmp_path / "p.html")


def test_the_top_of_the_page_has_the_settings_the_prompt_and_the_rejects(tmp_path):
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo_pixels(200, 160)).save(tmp_path / "photos" / "good.png")
    Image.new("RGB", (200, 160), "teal").save(tmp_path / "photos" / "flat & plain.png")
    build_puzzles("image", tmp_path / "photos", tmp_path / "set", config={"grid": "2x2"}, workers=1)
    page = preview_puzzles(tmp_path / "set", tmp_path / "p.html").read_text()
    top = page[: page.index("<article")]
    assert "<code>grid=2x2</code>" in top
    assert "<details open><summary>The prompt" in top
    assert "flat &amp; plain.png: " in top
    assert top.count("<img") == 1, "the rejected photo is shown"


def test_a_reject_shows_no_file_outside_the_sources(photos, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
    build_puzzles("image", photos, tmp_path / "set", config=CONFIG, workers=1, materialize=True)
    (tmp_path / "set" / "rejects.jsonl").write_text('{"source": "../secret.png", "reason": "x"}\n')
    page = preview_puzzles(tmp_path / "set", tmp_path / "p.html", source_root=photos).read_text()
    assert "<img" not in page[: page.index("<article")]


def test_pictures_in_a_row_wrap_and_pictures_in_a_grid_shrink(photos, tmp_path):
    config = {"side": 56, "masked": 3}
    build_puzzles("masked", photos, tmp_path / "row", config=config, workers=1, progress=False)
    build_puzzles("image", photos, tmp_path / "grid", config={"grid": "2x2", "tile": 28}, workers=1, progress=False)
    row = preview_puzzles(tmp_path / "row", tmp_path / "row.html", count=1).read_text()
    grid = preview_puzzles(tmp_path / "grid", tmp_path / "grid.html", count=1).read_text()
    assert 'class="tiles row"' in row and 'style="grid-template' not in row
    assert "grid-template-columns: repeat(2, minmax(0, max-content))" in grid
