"""`jigsaw audit`: sets with one built-in shortcut, of which exactly this leak is reported, and sets without leaks."""

from itertools import permutations

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from jigsaw.audit import Audit, audit_puzzles
from jigsaw.audit.audit import audit_tables
from jigsaw.audit.edge_matching import fill, match_edges
from jigsaw.audit.rank_prior import commonest, fitted_orders, ranks
from jigsaw.data import build_puzzles
from jigsaw.errors import JigsawError
from jigsaw.results.log_file import from_json, to_json

SIDE, CELL = 192, 64
PHOTOS = 48


def blurred(generator, shape, reach):
    """Smooth noise, 0 to 255, whose pixels are correlated within `reach` pixels."""
    height, width = shape
    small = generator.uniform(0, 255, (height // reach + 2, width // reach + 2, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def unrelated_cells(generator):
    """A picture of 3x3 independent cells, which cannot be reassembled."""
    picture = Image.new("RGB", (SIDE, SIDE))
    for cell in range(9):
        picture.paste(blurred(generator, (CELL, CELL), 8), (cell % 3 * CELL, cell // 3 * CELL))
    return picture


def continuous(generator):
    return blurred(generator, (SIDE, SIDE), 10)


def lit_from_above(generator):
    fall = np.linspace(60, -60, SIDE)[:, None, None]
    flat = np.asarray(unrelated_cells(generator)).astype(float) * 0.25 + 96
    # The brightness changes in steps between rows of cells, so that borders do not match.
    steps = np.repeat(fall.reshape(3, CELL).mean(axis=1), CELL)[:, None, None]
    return Image.fromarray((flat + steps).clip(0, 255).astype(np.uint8))


def photo_set(root, make, *, suffix="png", task="image", **config):
    photos = root / "photos"
    photos.mkdir(parents=True)
    generator = np.random.default_rng(7)
    for number in range(PHOTOS):
        options = {"quality": 12, "subsampling": 0} if suffix == "jpg" else {}
        make(generator).save(photos / f"photo-{number}.{suffix}", **options)
    settings = {"grid": "3x3", "answer_style": "direct", "flat": "keep"} | config
    build_puzzles(task, photos, root / "set", config=settings, per_source=2, progress=False, workers=1)
    return root / "set"


def place_of(report, name):
    (group,) = report.groups
    return next(finding.place_accuracy.value for finding in group.findings if finding.name == name)


def test_a_set_without_shortcuts_has_no_leak(tmp_path):
    report = audit_puzzles(photo_set(tmp_path, unrelated_cells))
    assert report.leaks == report.here == []
    (group,) = report.groups
    assert (group.num_puzzles, group.num_sources, group.grid) == (96, 48, (3, 3))
    assert {finding.name for finding in group.findings} >= {"constant", "label order", "edges", "compression"}
    (tmp_path / "audit.json").write_text(to_json(report))
    assert from_json(Audit, tmp_path / "audit.json") == report


def test_matching_borders_are_a_leak_and_a_margin_removes_it(tmp_path):
    without_margin = audit_puzzles(photo_set(tmp_path / "open", continuous))
    with_margin = audit_puzzles(photo_set(tmp_path / "closed", continuous, margin=0.3, min_tile=8))
    assert without_margin.leaks == ["edges"]
    assert place_of(without_margin, "edges") > 0.9
    (finding,) = [each for each in without_margin.groups[0].findings if each.leak]
    assert finding.remedy.startswith("margin")
    assert with_margin.leaks == []


def test_a_shortcut_in_few_sources_is_reported_for_these_puzzles_only(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    generator = np.random.default_rng(7)
    for number in range(2):
        continuous(generator).save(photos / f"{number}.png")
    config = {"grid": "3x3", "answer_style": "direct", "flat": "keep"}
    build_puzzles("image", photos, tmp_path / "set", config=config, per_source=20, progress=False, workers=1)
    report = audit_puzzles(tmp_path / "set")
    assert report.leaks == []
    assert report.here[0] == "edges"
    console = Console(width=120)
    with console.capture() as output:
        console.print(audit_tables(report))
    assert "edges: margin" in output.get() and "2 sources are too few" in output.get()
    assert "no shortcut is above chance" not in output.get()


def test_brightness_that_determines_the_row_is_a_leak(tmp_path):
    report = audit_puzzles(photo_set(tmp_path, lit_from_above))
    assert report.leaks == ["brightness and colour"]
    assert place_of(report, "brightness and colour") == pytest.approx(1 / 3, abs=0.08)  # the row, not the column


def test_the_block_grid_of_a_jpeg_is_a_leak_and_resizing_removes_it(tmp_path):
    # Cells of 66 px begin 0, 2 and 4 px after a border of the 8-px grid.
    def noise_cells(generator):
        picture = Image.new("RGB", (198, 198))
        for cell in range(9):
            noise = generator.uniform(90, 160, (66, 66, 3)).astype(np.uint8)
            picture.paste(Image.fromarray(noise), (cell % 3 * 66, cell // 3 * 66))
        return picture

    def leaks(name, **options):
        return audit_puzzles(photo_set(tmp_path / name, noise_cells, margin=0.1, **options)).leaks

    assert leaks("jpeg", suffix="jpg") == ["compression"]
    assert leaks("png") == []
    assert leaks("resized", suffix="jpg", tile=16, min_tile=16) == []


LAZY = '''
from jigsaw.tasks.image import ImageTask
from jigsaw.tasks import Puzzle
from dataclasses import replace


class Lazy(ImageTask):
    """Does not shuffle uniformly: the first tile is always shown first, the second last."""

    name = "lazy"

    def plan(self, source, rng):
        puzzle = super().plan(source, rng)
        middle = [2, 3, 4, 5, 6, 7, 8]
        rng.shuffle(middle)
        shown = [0, *middle, 1]
        answer = tuple(shown.index(place) + 1 for place in range(9))
        return replace(puzzle, answer=answer, geometry={**puzzle.geometry, "shown": shown})
'''


def test_orders_that_are_not_uniform_are_a_leak(tmp_path):
    (tmp_path / "lazy.py").write_text(LAZY)
    spec = f"{tmp_path / 'lazy.py'}:Lazy"
    report = audit_puzzles(photo_set(tmp_path / "lazy", unrelated_cells, task=spec), task=spec)
    assert report.leaks == ["label order"] or report.leaks == ["constant", "label order"]
    assert place_of(report, "label order") == pytest.approx(2 / 9 + 1 / 9, abs=0.06)
    remedies = {finding.remedy for finding in report.groups[0].findings if finding.leak}
    assert all(remedy.startswith("set identity=true") for remedy in remedies)


# Clips


def write_video(path, generator, cuts):
    """Writes a video that moves over one picture or, with `cuts`, over a new picture in every clip."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 96, 64, "yuv420p", 4_000_000
        for scene in range(4):
            if scene == 0 or cuts:
                large = np.asarray(blurred(generator, (160, 320), 12))
                x, y, step = generator.integers(60, 200), generator.integers(20, 70), generator.normal(0, 2, 2)
            for _ in range(16):
                x, y = np.clip(x + step[0], 0, 220), np.clip(y + step[1], 0, 90)
                step = step + generator.normal(0, 0.5, 2)
                frame = np.ascontiguousarray(large[int(y) : int(y) + 64, int(x) : int(x) + 96])
                for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                    container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def video_set(root, cuts):
    folder = root / "videos"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(3)
    for number in range(30):
        write_video(folder / f"video-{number}.mp4", generator, cuts)
    config = {"clips": 4, "min_duration": 4, "trim": 0, "min_frames": 16, "max_frames": 16, "fps": 8, "static": "keep"}
    build_puzzles("video", folder, root / "set", config=config, per_source=1, progress=False, workers=1)
    return root / "set"


def test_clips_that_begin_where_others_end_are_a_leak(tmp_path):
    report = audit_puzzles(video_set(tmp_path / "whole", cuts=False))
    assert report.leaks == ["edges"]
    assert [finding.remedy[:4] for finding in report.groups[0].findings if finding.leak] == ["trim"]
    assert audit_puzzles(video_set(tmp_path / "cut", cuts=True)).leaks == []


# Points


def depth_set(root, ramp):
    """Builds a set of RGB-D pairs: a floor that is nearer at the bottom, or blocks at random depths."""
    generator = np.random.default_rng(5)
    for number in range(40):
        folder = root / "rgbd" / f"scene-{number}"
        folder.mkdir(parents=True)
        unrelated_cells(generator).save(folder / "color.png")
        down = np.linspace(5000, 1000, SIDE)[:, None] + np.zeros((SIDE, SIDE))
        blocks = np.kron(generator.uniform(1000, 5000, (6, 6)), np.ones((32, 32)))
        depth = down if ramp else blocks
        Image.fromarray(depth.astype(np.uint16)).save(folder / "depth.png")
    config = {"points": 4, "min_gap": 0.1, "min_distance": 15, "radius": 6}
    build_puzzles("depth", root / "rgbd", root / "set", config=config, per_source=2, progress=False, workers=1)
    return root / "set"


def test_points_that_are_nearer_at_the_bottom_are_a_leak(tmp_path):
    report = audit_puzzles(depth_set(tmp_path / "floor", ramp=True))
    assert report.leaks == ["position"]
    assert place_of(report, "position") > 0.9
    assert audit_puzzles(depth_set(tmp_path / "blocks", ramp=False)).leaks == []


# Single functions


def test_the_beam_search_finds_the_best_arrangement_of_few_pieces():
    generator = np.random.default_rng(1)
    for _ in range(20):
        right, below = generator.uniform(0, 1, (2, 4, 4))

        def cost(order, right=right, below=below):
            a, b, c, d = (piece - 1 for piece in order)
            return right[a, b] + right[c, d] + below[a, c] + below[b, d]

        best = fill((2, 2), right, below)
        assert cost(best) == pytest.approx(min(cost(order) for order in permutations([1, 2, 3, 4])))


def test_edge_matching_reassembles_a_shuffled_picture():
    picture = np.asarray(continuous(np.random.default_rng(2)))
    shown = [4, 0, 7, 2, 8, 1, 5, 3, 6]
    cells = [picture[None, c // 3 * CELL : (c // 3 + 1) * CELL, c % 3 * CELL : (c % 3 + 1) * CELL] for c in shown]
    assert match_edges(cells, (3, 3)) == [shown.index(place) + 1 for place in range(9)]


def test_a_prior_is_fitted_on_other_sources_only():
    """Features that determine the answer within a source, but differ between sources, give chance accuracy."""
    generator = np.random.default_rng(4)
    answers, tables, sources = [], [], []
    for source in range(60):
        code = generator.permutation(4)
        for _ in range(3):
            answer = (generator.permutation(4) + 1).tolist()
            answers.append(answer)
            sources.append(str(source))
            tables.append(np.array([[code[answer.index(piece)]] for piece in (1, 2, 3, 4)]))
    orders = fitted_orders(tables, answers, sources)
    right = np.mean([np.mean(np.array(order) == answer) for order, answer in zip(orders, answers, strict=True)])
    assert right < 0.36
    same = [np.array([[answer.index(piece)] for piece in (1, 2, 3, 4)]) for answer in answers]
    assert fitted_orders(same, answers, sources) == answers


def test_equal_values_have_equal_ranks():
    assert ranks([2.0, 2.0, 2.0]) == [0, 0, 0]


def test_the_commonest_answer_is_counted_in_other_sources():
    answers = [[1, 2]] * 5 + [[2, 1]] * 20
    sources = [str(i) for i in range(25)]
    assert commonest(answers, sources) == [[2, 1]] * 25


def test_too_few_puzzles_have_no_findings(puzzle_folder, tmp_path):
    report = audit_puzzles(puzzle_folder, limit=5)
    assert report.leaks == []
    assert report.groups[0].findings == []


def test_an_audit_stores_its_command(puzzle_folder, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/usr/bin/jigsaw", "audit", "a set", "--limit", "5"])
    assert audit_puzzles(puzzle_folder, limit=5).command == "jigsaw audit 'a set' --limit 5"


def test_a_folder_without_a_puzzle_set_is_refused(tmp_path):
    with pytest.raises(JigsawError):
        audit_puzzles(tmp_path)
