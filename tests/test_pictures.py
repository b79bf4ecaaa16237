"""Pictures for reports and previews: mosaics of tiles, and data URIs that decode to the same picture."""

import base64
import io

import pytest
from PIL import Image

from jigsaw.pictures import data_uri, mosaic


def decoded(uri):
    kind, _, data = uri.partition(";base64,")
    return kind, Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_mosaic_has_the_tiles_in_raster_order_with_white_gaps():
    tiles = [Image.new("RGB", (3, 2), colour) for colour in ("red", "lime", "blue", "black")]
    without_gap = mosaic(tiles, 2, 2)
    assert without_gap.size == (6, 4)
    assert [without_gap.getpixel(place) for place in ((0, 0), (3, 0), (0, 2), (5, 3))] == [
        tile.getpixel((0, 0)) for tile in tiles
    ]
    row = mosaic(tiles, 1, 4, gap=1)
    assert row.size == (15, 2)
    assert row.getpixel((3, 0)) == (255, 255, 255)


@pytest.mark.parametrize(("lossless", "kind", "error"), [(True, "data:image/png", 0), (False, "data:image/jpeg", 24)])
def test_a_data_uri_decodes_to_the_picture(lossless, kind, error):
    picture = Image.radial_gradient("L").convert("RGB")
    encoded_kind, again = decoded(data_uri(picture, lossless=lossless))
    assert encoded_kind == kind and again.size == picture.size
    differences = [abs(a - b) for a, b in zip(picture.tobytes(), again.convert("RGB").tobytes(), strict=True)]
    assert max(differences) <= error
