"""The picture at the top of the README: one puzzle as a model sees it, its answer, and the photo put back together.

    python docs/images/puzzle.py

The photo is of NASA (public domain), out of the package scikit-image.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import skimage
from PIL import Image, ImageDraw, ImageFont

from jigsaw.data import build_puzzles, load_puzzles

TILE, GAP, BETWEEN, TOP = 120, 6, 300, 34
INK, FAINT, PAPER, GREEN = "#1f2328", "#59636e", "#ffffff", "#1a7f37"


def grid(tiles: list[Image.Image], numbers: list[int]) -> Image.Image:
    """Nine tiles in raster order with their numbers."""
    size = 3 * TILE + 2 * GAP
    board = Image.new("RGB", (size, size), PAPER)
    draw, font = ImageDraw.Draw(board), ImageFont.load_default(18)
    for place, (tile, number) in enumerate(zip(tiles, numbers, strict=True)):
        x, y = place % 3 * (TILE + GAP), place // 3 * (TILE + GAP)
        board.paste(tile.resize((TILE, TILE)), (x, y))
        draw.rounded_rectangle((x + 5, y + 5, x + 29, y + 29), 5, fill="#000000b0")
        draw.text((x + 17, y + 17), str(number), font=font, fill="white", anchor="mm")
    return board


def main() -> None:
    """Build the puzzle and draw it."""
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo"
        photo.mkdir()
        (photo / "astronaut.png").symlink_to(Path(skimage.__file__).parent / "data/astronaut.png")
        config = {"grid": "3x3", "tile": TILE}
        build_puzzles("image", photo, Path(folder) / "set", config=config, seed=4, progress=False)
        puzzle = load_puzzles(Path(folder) / "set")[0]
        shown, answer = [image.convert("RGB") for image in puzzle["images"]], list(puzzle["answer"])
    before = grid(shown, list(range(1, 10)))
    after = grid([shown[number - 1] for number in answer], answer)
    picture = Image.new("RGB", (2 * before.width + BETWEEN, before.height + TOP), PAPER)
    draw = ImageDraw.Draw(picture)
    small, large = ImageFont.load_default(17), ImageFont.load_default(22)
    picture.paste(before, (0, TOP))
    picture.paste(after, (before.width + BETWEEN, TOP))
    middle = before.width + BETWEEN // 2
    draw.text((0, 4), "what the model is shown", font=small, fill=FAINT)
    draw.text((before.width + BETWEEN, 4), "put back in order", font=small, fill=FAINT)
    y = TOP + before.height // 2
    draw.text((middle, y - 58), "its answer", font=small, fill=FAINT, anchor="mm")
    draw.text((middle, y - 28), ", ".join(map(str, answer)), font=large, fill=INK, anchor="mm")
    draw.line((middle - 90, y + 6, middle + 84, y + 6), fill=INK, width=3)
    draw.polygon([(middle + 92, y + 6), (middle + 78, y - 2), (middle + 78, y + 14)], fill=INK)
    draw.text((middle, y + 40), "reward 1", font=large, fill=GREEN, anchor="mm")
    picture.save(Path(__file__).with_suffix(".jpg"), quality=82, optimize=True)


if __name__ == "__main__":
    main()
