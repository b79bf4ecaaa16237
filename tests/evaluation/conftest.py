"""What the tests of reports share: a small puzzle set, and a run folder on it."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jigsaw.data import build_puzzles

sys.path.append(str(Path(__file__).parent))  # pytest imports test files without making their folder searchable

from made_runs import make_run


@pytest.fixture(scope="session")
def puzzle_set(tmp_path_factory) -> Path:
    """Eight puzzle_set of 2x3 tiles from four photos, a smooth gradient each, so that no two tiles are alike."""
    root = tmp_path_factory.mktemp("report")
    photos = root / "photos"
    photos.mkdir()
    down, across = np.mgrid[0:120, 0:180] / 180
    for number in range(4):
        waves = np.sin(8 * across + number) + np.cos(5 * down * (number + 1))
        pixels = np.stack([255 * across, 255 * down, 60 + 30 * waves], axis=-1)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(photos / f"photo-{number}.png")
    build_puzzles("image", photos, root / "set", config={"grid": "2x3", "tile": 40}, per_source=2, progress=False)
    return root / "set"


@pytest.fixture
def run(tmp_path, puzzle_set) -> Path:
    return make_run(tmp_path / "runs" / "small", puzzle_set)
