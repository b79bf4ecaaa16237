"""Fixtures of the tests of puzzle sets: folders of synthetic media."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

# The module `synthetic_media` is in tests/tasks, which is not on the import path if only tests/data runs.
sys.path.append(str(Path(__file__).parents[1] / "tasks"))

from synthetic_media import photo_pixels


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of twelve small photos in two sub-folders, one of which has spaces in its name."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(12):
        folder = root / ("one" if number % 2 else "two and more")
        folder.mkdir(exist_ok=True)
        kind = "jpg" if number % 3 else "png"
        Image.fromarray(photo_pixels(160 + number, 128, seed=number)).save(folder / f"photo {number}.{kind}")
    return root


@pytest.fixture
def deep(tmp_path):
    """A photo in 1,200 nested folders, deeper than Python's recursion limit; pytest cannot remove such a folder."""
    root = tmp_path / "deep"
    inner = root.joinpath(*["d"] * 1200)
    subprocess.run(["mkdir", "-p", str(inner)], check=True)
    Image.fromarray(photo_pixels(90, 90)).save(inner / "a.png")
    yield root
    subprocess.run(["rm", "-rf", str(root)], check=True)
