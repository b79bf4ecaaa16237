"""Shared fixtures: photos, sample media, a small puzzle set and tiny checkpoints, created once per session."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import settings
from PIL import Image

# Modules that import torch are imported inside the fixtures, so that tests without them start quickly.

settings.register_profile("jigsaw", deadline=None)  # a slow example on a busy machine is not a failure
settings.load_profile("jigsaw")


def textured(seed: int, size: tuple[int, int] = (160, 160)) -> Image.Image:
    """A picture with smooth random colours, whose 2x2 tiles all look different."""
    rng = Random(seed)
    small = Image.new("RGB", (8, 8))
    small.putdata([(rng.randrange(256), rng.randrange(256), rng.randrange(256)) for _ in range(64)])
    return small.resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six pictures."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(6):
        textured(number).save(folder / f"photo-{number}.png")
    return folder


@pytest.fixture(scope="session")
def sample_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that `jigsaw samples` writes; a test that changes them works on a copy."""
    pytest.importorskip("skimage", reason="the samples extra is not installed")
    from jigsaw.samples.samples import export_samples, list_samples

    out = tmp_path_factory.mktemp("samples") / "media"
    summary = export_samples(out)
    assert (summary.written, summary.unchanged) == (len(list_samples()) + 2, 0)
    return out


@pytest.fixture(scope="session")
def puzzle_folder(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A puzzle set of 24 2x2 puzzles with the answer style `direct`."""
    from jigsaw.data import build_puzzles

    out = tmp_path_factory.mktemp("puzzles") / "image-2x2"
    config = {"grid": "2x2", "tile": "28", "crop": "random", "answer_style": "direct"}
    build_puzzles("image", photos, out, config=config, per_source=4, workers=1, progress=False)
    return out


@pytest.fixture(scope="session")
def puzzles(puzzle_folder: Path):
    from jigsaw.data import load_puzzles

    return load_puzzles(puzzle_folder)


@pytest.fixture(scope="session")
def make_checkpoint(puzzles, tmp_path_factory: pytest.TempPathFactory):
    """A function that writes a tiny model with random weights, by default a Qwen2.5-VL; keywords change its sizes."""
    from jigsaw.models.tiny import TinySizes, write_tiny

    def make(architecture: str = "qwen2_5_vl", **changes: object) -> str:
        sizes = {"hidden_size": 64, "num_layers": 2, "vision_hidden_size": 64, "vision_layers": 2}
        sizes |= {
            "fullatt_block_indexes": (1,)
        } | changes  # window attention in some layers, as in released checkpoints
        out = tmp_path_factory.mktemp("model") / "tiny"
        texts = [part["text"] for part in puzzles[0]["prompt"][0]["content"] if part["type"] == "text"]
        texts += ["2, 1, 4, 3", "system\nuser\nassistant\n"]
        write_tiny(architecture, TinySizes(initializer_range=0.1, **sizes), texts, out)
        return str(out)

    return make


@pytest.fixture(scope="session")
def checkpoint(make_checkpoint) -> str:
    """The folder of a tiny Qwen2.5-VL with random weights."""
    return make_checkpoint()


@pytest.fixture
def model(checkpoint: str):
    from jigsaw.models.load import load_model

    return load_model(checkpoint)


@pytest.fixture(scope="session")
def processor(checkpoint: str):
    from jigsaw.models.load import load_processor

    return load_processor(checkpoint)


@pytest.fixture(scope="session")
def neo_checkpoint(puzzles, tmp_path_factory):
    """The folder of a tiny NEO with random weights."""
    from jigsaw.models.tiny import TinySizes, write_tiny

    sizes = TinySizes(hidden_size=64, num_layers=2, vision_hidden_size=64, initializer_range=0.1)
    folder = tmp_path_factory.mktemp("neo") / "tiny"
    texts = [part["text"] for part in puzzles[0]["prompt"][0]["content"] if part["type"] == "text"]
    write_tiny("neo", sizes, [*texts, "2, 1, 4, 3", "system\nuser\nassistant\n"], folder)
    return str(folder)
