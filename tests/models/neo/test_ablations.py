"""NEO models for the ablations of the paper: 1D positions and causal attention within images."""

from __future__ import annotations

import pytest
import torch

from jigsaw.models.load import load_model
from jigsaw.testing import assert_family
from jigsaw.testing.family_case import Case

VARIANTS = [("native", "mixed"), ("native", "causal"), ("1d", "mixed"), ("1d", "causal")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a tiny NEO, which the tests copy and change."""
    return Case("neo", tmp_path_factory.mktemp("neo") / "model").folder


def variant(folder, out, rope, attention):
    import json
    import shutil

    shutil.copytree(folder, out)
    config = json.loads((out / "config.json").read_text())
    config["llm_config"] |= {"rope_variant": rope, "image_attention": attention}
    (out / "config.json").write_text(json.dumps(config))
    return out


@pytest.mark.parametrize(("rope", "attention"), VARIANTS)
def test_every_variant_fulfils_the_contract(folder, tmp_path, rope, attention):
    """Checks the properties that depend on positions and masks."""
    properties = ["several images", "shared prompt", "left padding", "transformers sampling"]
    assert_family(str(variant(folder, tmp_path / "model", rope, attention)), only=properties)


def test_positions_and_masks_of_every_variant(folder, tmp_path):
    """The last patch changes the first token of an image only with bidirectional attention within images."""
    for rope, attention in VARIANTS:
        path = variant(folder, tmp_path / f"{rope}-{attention}", rope, attention)
        model = load_model(str(path))
        token, vision = model.config.image_token_id, model.config.vision_config
        ids, grid = torch.tensor([[1, token, token, 2]]), torch.tensor([[1, 2, 4]])
        time, row, column = model.get_rope_index(ids, grid)[0][:, 0].tolist()
        assert (time, column) == (([0, 1, 1, 2], [0, 0, 1, 0]) if rope == "native" else ([0, 1, 2, 3], [0] * 4))
        assert row == [0] * 4
        pixels = torch.rand(8, 3 * vision.patch_size**2, generator=torch.Generator().manual_seed(0))
        other = pixels.clone()
        other[3] += 1  # right column of the second token
        with torch.no_grad():
            first, second = (
                model(input_ids=ids, pixel_values=one, image_grid_thw=grid).logits[0, 1] for one in (pixels, other)
            )
        assert bool((first - second).abs().max() > 1e-4) is (attention == "mixed")


def test_an_unknown_variant_is_refused(folder, tmp_path):
    with pytest.raises(Exception, match="rope_variant '2d' is none of native, 1d"):
        load_model(str(variant(folder, tmp_path / "model", "2d", "mixed")))
