"""Numbers drawn into pictures: discs on points, labels over tiles and boxes.

In: numbers and positions in pixels. Out: pixels. Pillow's bundled scalable font is used, so that the pixels do not
depend on the fonts of the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from jigsaw.tasks.media.grids import Box

_OVERSAMPLING = 4
_SCREEN = 640

Color = tuple[int, int, int, int]
"""Red, green, blue, opacity; 0 to 255 each."""

RED: Color = (255, 0, 0, 170)
"""The paper's discs are half transparent, on which white numbers have a contrast of 2.5 to 1 over white. At two thirds
opacity the contrast is at least 3 to 1 on any background, which WCAG 2 (1.4.3) requires of large text."""

WHITE: Color = (255, 255, 255, 255)
BLACK: Color = (0, 0, 0, 255)


@lru_cache(maxsize=256)
def disc(number: int, radius: int, fill: Color = RED) -> Image.Image:
    """A filled disc with a number at its centre: RGBA, `2 * radius + 1` pixels a side, transparent outside."""
    side = 2 * radius + 1
    large = Image.new("RGBA", (side * _OVERSAMPLING, side * _OVERSAMPLING), (*fill[:3], 0))
    draw = ImageDraw.Draw(large)
    draw.ellipse((0, 0, large.width - 1, large.height - 1), fill=fill)
    _write(draw, str(number), large.width / 2, large.height / 2, 1.5 * radius * _OVERSAMPLING, WHITE, bold=True)
    return large.resize((side, side), Image.Resampling.BOX)


@lru_cache(maxsize=256)
def label(number: int, size: tuple[int, int]) -> Image.Image:
    """A number in black on white, centred: RGB of that width and height in pixels."""
    width, height = size
    large = Image.new("RGBA", (width * _OVERSAMPLING, height * _OVERSAMPLING), WHITE)
    _write(ImageDraw.Draw(large), str(number), large.width / 2, large.height / 2, 0.9 * large.height, BLACK)
    return large.resize(size, Image.Resampling.BOX).convert("RGB")


def _write(
    draw: ImageDraw.ImageDraw, text: str, x: float, y: float, height: float, ink: Color, bold: bool = False
) -> None:
    """Write a number centred on a point; two digits are smaller, so that they fit into the same width."""
    size = height if len(text) == 1 else 0.8 * height
    font, stroke = ImageFont.load_default(size=size), round(0.03 * size) if bold else 0
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font, stroke_width=stroke)
    place = (x - (left + right) / 2, y - (top + bottom) / 2)
    draw.text(place, text, font=font, fill=ink, stroke_width=stroke)


def mark_points(picture: Image.Image, points: Sequence[tuple[int, int]], radius: int, fill: Color = RED) -> Image.Image:
    """A copy of a picture with a numbered disc on every point; point `j` gets the number `j + 1`.

    Args:
        points: x and y in pixels; the discs must be inside the picture.
        radius: radius of the discs in pixels.
        fill: their colour.
    """
    marked = picture.copy()
    for number, (x, y) in enumerate(points, start=1):
        mark = disc(number, radius, fill)
        marked.paste(mark.convert("RGB"), (x - radius, y - radius), mask=mark.getchannel("A"))
    return marked


def mark_boxes(picture: Image.Image, boxes: Sequence[Box], numbers: Sequence[int]) -> Image.Image:
    """A copy of a picture, dimmed outside the boxes, with every box outlined and its number at the centre.

    Args:
        picture: shrunk first if it is larger than a screen.
        boxes: in pixels of `picture`.
        numbers: the number of each box.
    """
    shrink = min(1.0, _SCREEN / max(picture.size))
    size = (max(1, round(picture.width * shrink)), max(1, round(picture.height * shrink)))
    marked = Image.blend(picture.resize(size), Image.new("RGB", size, "white"), 0.55)
    for box, number in zip(boxes, numbers, strict=True):
        left, top, right, bottom = (round(side * shrink) for side in box)
        inside = picture.crop(box).resize((max(1, right - left), max(1, bottom - top)))
        marked.paste(inside, (left, top))
        ImageDraw.Draw(marked).rectangle((left, top, right - 1, bottom - 1), outline="white")
        radius = min(max(9, min(inside.size) // 5), 26)
        if min(inside.size) > 2 * radius:
            mark = disc(number, radius, fill=(0, 0, 0, 150))
            place = ((left + right) // 2 - radius, (top + bottom) // 2 - radius)
            marked.paste(mark.convert("RGB"), place, mask=mark.getchannel("A"))
    return marked
