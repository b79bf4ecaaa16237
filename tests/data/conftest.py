"""What the tests of data sets share: the makers of media, and folders full of them."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

# The makers of media stand beside the tests of the tasks; both folders are searched by pytest, but not in every run.
sys.path.append(str(Path(__file__).parents[1] / "tasks"))

from synthetic_media import photo_pixels


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of twelve small photos in two sub-folders, one with a blank and a space in its name."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(12):
        folder = root / ("one" if number % 2 else "two and more")
        folder.mkdir(exist_ok=True)
        kind = "jpg" if number % 3 else "png"
        Image.fromarray(photo_pixels(160 + number, 128, seed=number)).save(folder / f"photo {number}.{kind}")
    return root


@pytest.fixture
def deep(tmp_path):
    """A photo 1,200 folders down, deeper than Python calls may be nested; pytest could not remove it."""
    root = tmp_path / "deep"
    inner = root.joinpath(*["d"] * 1200)
    subprocess.run(["mkdir", "-p", str(inner)], check=True)
    Image.fromarray(photo_pixels(90, 90)).save(inner / "a.png")
    yield root
    subprocess.run(["rm", "-rf", str(root)], check=True)
