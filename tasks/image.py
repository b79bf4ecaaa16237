"""The image jigsaw: a photo cut into a grid of tiles, shown in a shuffled order.

In: one photo. Out: a puzzle whose places are the grid's cells in raster order, rendered as one RGB image per tile or as
one sheet of numbered tiles. `ImageGeometry` contains all that rendering needs. Its `scale` depends only on the photo's
size and the configuration, so that all puzzles of a photo share one decode, and a 12-megapixel JPEG that is shown in
small tiles is never decoded in full. The grids, the 28-pixel limit and the answer convention are from the paper
(section 3.1); margins, random crops and `augment` are additions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import Annotated, Any, ClassVar, Literal, NotRequired, TypedDict, TypeVar, cast

from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import (
    TYPICAL_PHOTO,
    AnswerStyle,
    Extent,
    Media,
    Message,
    PromptVariant,
    Puzzle,
    Reject,
    Source,
    SourceKind,
    Task,
    first_usable,
)
from jigsaw.tasks.foreign import ForeignRows, pair_of
from jigsaw.tasks.keys import AnswerStyleKey
from jigsaw.tasks.media.caching import BoundedCache, picture_cache
from jigsaw.tasks.media.composite import sheet, sheet_boxes
from jigsaw.tasks.media.grids import (
    MAX_ASPECT,
    MOST_CELLS,
    Crop,
    Grid,
    Region,
    choose_region,
    largest_square_cell,
    parse_grid,
    too_long,
)
from jigsaw.tasks.media.likeness import look_alike_classes, mean_differences, signatures
from jigsaw.tasks.media.marks import mark_boxes
from jigsaw.tasks.media.photos import MAX_PIXELS, PHOTO_REASONS, SCALES, PhotoHeader, read_header, read_photo
from jigsaw.tasks.permutations import answer_of, draw_shown
from jigsaw.tasks.prompts import instruction_of, labelled_pieces, user_message

Place = TypeVar("Place")


class Augment(TypedDict):
    """How a shown region is changed.

    Attributes:
        mirror: whether its rows are reversed.
        channels: the order of its colour channels.
    """

    mirror: bool
    channels: list[int]


class ImageGeometry(TypedDict):
    """How a photo is cut and shown, in pixels of the upright photo decoded at `1/scale`.

    Attributes:
        scale: reduction of the decoded photo: 1, 2, 4 or 8.
        size: width and height of the decoded photo.
        left, top: corner of the region that is cut.
        grid: rows and columns.
        cell: width and height of a cell.
        inset: pixels cut from the left and right, and from the top and bottom, of every cell.
        tile: width and height with which a tile is shown.
        shown: the 0-based cells, in raster order, as they are displayed.
        layout: `separate` images, or one `composite` sheet.
        augment: how the region is changed before it is shown.
        resize: width and height to which an imported puzzle's photo is resized before the region is cut.
    """

    scale: int
    size: list[int]
    left: int
    top: int
    grid: list[int]
    cell: list[int]
    inset: list[int]
    tile: list[int]
    shown: list[int]
    layout: str
    augment: NotRequired[Augment]
    resize: NotRequired[list[int]]


NO_CHANGE: Augment = {"mirror": False, "channels": [0, 1, 2]}
"""The `augment` of a geometry that has none."""

CACHED_HEADERS = 1000

OVERVIEW_SIDE = 24
"""Look-alike tiles are detected on a decode in which a tile has at least this many pixels a side."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class ImageConfig:
    """How photos are cut and shown."""

    grid: Annotated[Grid, Field(description="rows x columns, from 1x2 to 8x8")] = "3x3"
    crop: Annotated[
        Crop,
        Field(description="center: largest centred square tiles; random: random size and place; none: the whole photo"),
    ] = "center"
    crop_scale: Annotated[
        float, Field(gt=0, le=1, description="smallest random crop, as a fraction of the largest side")
    ] = 0.5
    margin: Annotated[
        float, Field(ge=0, le=0.4, description="fraction of a tile cut from each edge, against edge matching")
    ] = 0.0
    tile: Annotated[int | None, Field(ge=1, le=4096, description="resize every tile to this many pixels square")] = None
    min_tile: Annotated[
        int, Field(ge=1, description="reject photos whose tiles are cut or shown smaller, in pixels a side")
    ] = 28
    max_tile: Annotated[
        int | None, Field(ge=1, description="shrink tiles with a longer side to it; null: never shrink")
    ] = 448
    layout: Annotated[
        Literal["separate", "composite"],
        Field(description="separate: one image per tile; composite: one image with all tiles, numbered"),
    ] = "separate"
    flat: Annotated[
        Literal["reject", "classes", "keep"],
        Field(description="tiles that look the same: reject the puzzle, record classes, or keep it as it is"),
    ] = "reject"
    flat_tolerance: Annotated[
        float, Field(ge=0, le=255, description="two tiles look the same below this RMS difference, 0 to 255")
    ] = 6.0
    identity: Annotated[bool, Field(description="whether the shown order may be the right order")] = True
    augment: Annotated[
        bool,
        Field(description="mirror photos and swap their colour channels at random, for more variety from few photos"),
    ] = False
    answer_style: AnswerStyleKey = "think"

    def __post_init__(self) -> None:
        for name, side in (("tile", self.tile), ("max_tile", self.max_tile)):
            if side is not None and side < self.min_tile and (name == "tile" or self.tile is None):
                raise ValueError(
                    f"{name}={side} is below min_tile={self.min_tile}, so that every photo would be rejected"
                )


class ImageTask(Task):
    """Put shuffled image tiles back in raster order."""

    name: ClassVar[str] = "image"
    source_kind: ClassVar[SourceKind] = "image"
    SMALL: ClassVar[Mapping[str, Any]] = {"tile": 28}
    Config: ClassVar[type] = ImageConfig
    REASONS = PHOTO_REASONS | {
        "too_small": "a tile would have fewer than `min_tile` pixels a side, in the photo or as shown",
        "too_long": f"a tile or the sheet of tiles would be at least {MAX_ASPECT} times as long as wide",
        "ambiguous": "two tiles look the same (flat or repeated), so that more than one answer is right",
    }
    PIECE = "tile"
    SIZE = ("grid", ("2x2", "3x3", "4x4"))
    VARIANTS = (
        PromptVariant(
            "Somebody mixed up the {count} pieces of a picture.",
            "Piece {number}",
            "Which piece goes where, row by row?",
        ),
        PromptVariant(
            "Below are {count} fragments of one photograph, {rows} high and {columns} wide, out of order.",
            "({number})",
            "Name the fragments as one reads a page, from the upper left to the lower right.",
        ),
    )
    REMEDIES: ClassVar = {
        "edges": "margin=0.1 or more cuts the edges off every tile",
        "look": "set crop=random with a small crop_scale, or augment=true; or use photos of other subjects",
        "form": "set tile=N: it resizes all tiles to one size, and at half their own size it blurs the block grid",
    }
    FOREIGN = ForeignRows(column="images")

    config: ImageConfig

    def __init__(self, config: ImageConfig | None = None) -> None:
        super().__init__(config)
        self._grid = parse_grid(self.config.grid)
        self._photos = picture_cache()
        self._headers: BoundedCache[PhotoHeader] = BoundedCache(CACHED_HEADERS, lambda _: 1)
        self._judged: BoundedCache[tuple[int, ...]] = BoundedCache(CACHED_HEADERS, lambda _: 1)

    def plan(self, source: Source, rng: Random) -> Puzzle | Reject:
        """Choose region, shown order and answer; a photo that is damaged, too small or ambiguous is rejected."""
        return first_usable(lambda: self._plan(source, rng))

    def _plan(self, source: Source, rng: Random) -> Puzzle | Reject:
        config = self.config
        header = self._headers.get(source.fingerprint, lambda: read_header(source.files["image"]))
        scale = self._render_scale(header)
        if (unfit := self._unfit(header, scale)) is not None:
            return unfit
        size = header.scaled_size(scale)
        region = choose_region(
            size, self._grid, config.crop, crop_scale=config.crop_scale, margin=config.margin, rng=rng
        )
        judge = partial(self._classes, source, header, scale, region)
        classes = self._judged.get((source.fingerprint, region), judge)
        if config.flat != "reject" or len(set(classes)) == len(classes):
            return self._puzzle(size, scale, region, classes, rng)
        by_class = [[place for place, number in enumerate(classes) if number == wanted] for wanted in set(classes)]
        alike = sorted(places for places in by_class if len(places) > 1)
        detail = "tiles " + " and ".join(" = ".join(str(place + 1) for place in places) for places in alike)
        return Reject("ambiguous", f"{detail} (raster order) look the same", final=config.crop != "random")

    def render(self, puzzle: Puzzle, source: Source) -> Media:
        """One RGB image per tile in shown order, or one sheet with all of them."""
        geometry = cast(ImageGeometry, puzzle.geometry)
        photo = self._whole(source, geometry)
        boxes = _region(geometry).boxes()
        size = (geometry["tile"][0], geometry["tile"][1])
        augment = geometry.get("augment", NO_CHANGE)
        if augment["mirror"]:
            boxes = _mirrored(boxes, columns=geometry["grid"][1])
        cut = (photo.crop(boxes[place]) for place in geometry["shown"])
        shown = (tile if tile.size == size else tile.resize(size, Image.Resampling.BICUBIC) for tile in cut)
        tiles = [_augmented(tile, augment) for tile in shown]
        if geometry["layout"] == "composite":
            return Media(images=[sheet(tiles, rows=geometry["grid"][0], columns=geometry["grid"][1])])
        return Media(images=tiles)

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """Every tile after its number, the question and the answer instruction."""
        rows, columns = puzzle.geometry["grid"]
        if puzzle.answer_style == "direct":
            # A short prompt: style direct is for tiny models, to which every token is costly.
            opening, label, order = f"A {rows}x{columns} jigsaw.", "", "raster order"
        else:
            opening = f"An image was cut into {rows} rows x {columns} columns and shuffled."
            label, order = "Tile", "raster order: left to right, top row first"
        tiles = labelled_pieces(puzzle, label)
        if puzzle.geometry["layout"] == "composite":
            tiles = ["The picture shows the tiles, each under its number:", {"type": "image"}]
        return user_message([opening, *tiles, f"List the tiles in {order}. {instruction_of(puzzle)}"])

    def extent(self) -> Extent:
        """The tiles of a photo of 640 x 480 pixels."""
        rows, columns = self._grid
        cell = (TYPICAL_PHOTO[0] // columns, TYPICAL_PHOTO[1] // rows)
        if self.config.crop != "none":
            cell = (min(cell), min(cell))
        width, height = self._shown_size(cell)
        if self.config.layout == "composite":
            return Extent(rows * columns, images=((width * columns, height * rows),))
        return Extent(rows * columns, images=((width, height),) * (rows * columns))

    def explain(self, puzzle: Puzzle, source: Source) -> list[tuple[str, Image.Image]]:
        """The photo with the cells marked, each with the number under which its tile is shown."""
        geometry = cast(ImageGeometry, puzzle.geometry)
        marked = mark_boxes(self._whole(source, geometry), _region(geometry).boxes(), puzzle.answer)
        return [("The photo and its cut", marked)]

    def adopt(self, source: Source, rng: Random, about: Mapping[str, Any], style: AnswerStyle) -> Puzzle | Reject:
        """The photo resized to `resize_size`, with a centre crop of `crop_size` cut into the `jigsaw_config` grid."""
        size = read_header(source.files["image"]).size
        read_photo(source.files["image"], max(SCALES))  # finds damaged files
        rows, columns = pair_of(about["jigsaw_config"]) or (3, 3)
        resize, crop = pair_of(about.get("resize_size")), pair_of(about.get("crop_size"))
        width, height = resize or size
        crop_width, crop_height = crop or (width, height)
        cell = (crop_width // columns, crop_height // rows)
        if width * height > MAX_PIXELS:
            return Reject("too_large", f"resized to {width}x{height} pixels, more than {MAX_PIXELS:,}")
        if rows * columns > MOST_CELLS:
            return Reject("too_small", f"a grid of {rows}x{columns} has more than {MOST_CELLS:,} tiles")
        if crop_width > width or crop_height > height or min(cell) < 1:
            detail = f"a crop of {crop_width}x{crop_height} in {rows}x{columns} tiles out of {width}x{height} pixels"
            return Reject("too_small", detail)
        if too_long(cell):
            return Reject(
                "too_long",
                f"tiles of {cell[0]}x{cell[1]} pixels; the longer side may be at most {MAX_ASPECT} times the shorter",
            )
        shown = draw_shown(rows * columns, rng)
        region = Region((width - crop_width) // 2, (height - crop_height) // 2, rows, columns, cell)
        geometry = _geometry(1, size, region, cell, shown, "separate")
        if resize:
            geometry["resize"] = list(resize)
        return Puzzle(self.name, answer_of(shown), geometry, style)

    def _render_scale(self, header: PhotoHeader) -> int:
        """The largest decoding reduction at which the smallest possible tile still has as many pixels as are shown."""
        wanted = self.config.tile or self.config.max_tile
        if wanted is None:
            return 1
        smallest = min(self._smallest_tile(header.size))
        return max(scale for scale in SCALES if scale == 1 or smallest // scale >= wanted)

    def _smallest_tile(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height in pixels of the smallest tile that this configuration may cut from a photo of `size`."""
        cell = largest_square_cell(size, self._grid)
        if self.config.crop == "none":
            sides = (size[0] // self._grid[1], size[1] // self._grid[0])
        else:
            side = round(cell * self.config.crop_scale) if self.config.crop == "random" else cell
            sides = (side, side)
        width, height = (side - 2 * int(side * self.config.margin) for side in sides)
        return width, height

    def _unfit(self, header: PhotoHeader, scale: int) -> Reject | None:
        """A reject if tiles are too small, in the photo or as shown, or too long for image processors; else None."""
        cut = self._smallest_tile(header.size)
        shown = self._shown_size(self._smallest_tile(header.scaled_size(scale)))
        gives = f"a photo of {header.size[0]}x{header.size[1]} pixels gives tiles of {cut[0]}x{cut[1]}"
        if shown != cut:
            gives += f", shown as {shown[0]}x{shown[1]}"
        if min(*cut, *shown) < self.config.min_tile:
            return Reject(
                "too_small", f"{gives}; min_tile={self.config.min_tile} needs at least {self.config.min_tile}"
            )
        if self.config.layout == "composite":
            gives, shown = f"{gives} on a sheet", sheet_boxes(shown, *self._grid)[0]
        if too_long(shown):
            return Reject("too_long", f"{gives}; the longer side may be at most {MAX_ASPECT} times the shorter")
        return None

    def _classes(self, source: Source, header: PhotoHeader, scale: int, region: Region) -> tuple[int, ...]:
        """Look-alike classes in raster order. The photo is decoded for any `flat`, which finds damaged files."""
        overview = self._overview(source, header, scale, min(region.tile))
        if self.config.flat == "keep":
            return tuple(range(region.rows * region.columns))
        width, height = header.scaled_size(scale)
        across, down = overview.width / width, overview.height / height
        boxes = [(box[0] * across, box[1] * down, box[2] * across, box[3] * down) for box in region.boxes()]
        return look_alike_classes(mean_differences(signatures(overview, boxes)), self.config.flat_tolerance)

    def _puzzle(
        self, size: tuple[int, int], scale: int, region: Region, classes: tuple[int, ...], rng: Random
    ) -> Puzzle:
        shown = draw_shown(len(classes), rng, identity=self.config.identity)
        geometry = _geometry(scale, size, region, self._shown_size(region.tile), shown, self.config.layout)
        if self.config.augment:
            geometry["augment"] = {"mirror": rng.random() < 0.5, "channels": rng.sample(range(3), 3)}
            if geometry["augment"]["mirror"]:
                classes = tuple(_mirrored(classes, columns=region.columns))
        alike = len(set(classes)) < len(classes)
        return Puzzle(
            task=self.name,
            answer=answer_of(shown),
            geometry=geometry,
            answer_style=self.config.answer_style,
            classes=tuple(classes[place] for place in shown) if alike else None,
        )

    def _shown_size(self, tile: tuple[int, int]) -> tuple[int, int]:
        """Width and height in pixels of a tile as it is shown."""
        if self.config.tile is not None:
            return self.config.tile, self.config.tile
        longest = max(tile)
        limit = self.config.max_tile or longest
        if longest <= limit:
            return tile
        return max(1, round(tile[0] * limit / longest)), max(1, round(tile[1] * limit / longest))

    def _overview(self, source: Source, header: PhotoHeader, scale: int, side: int) -> Image.Image:
        """The photo, reduced as far as tiles of `side` pixels at `1/scale` can still be compared."""
        smaller = max(s for s in SCALES if s == 1 or side // s >= OVERVIEW_SIDE)
        if header.quick_to_scale:
            return self._photo(source, min(scale * smaller, max(SCALES)))
        if header.converted:  # colours of the full picture are converted only for rendering
            file = source.files["image"]
            return self._photos.get(
                (source.fingerprint, scale, smaller), lambda: read_photo(file, scale * smaller, glance=True)
            )
        # A file that is slow to decode is decoded once, for the tiles and the overview.
        return self._photos.get(
            (source.fingerprint, scale, smaller), lambda: self._photo(source, scale).reduce(smaller)
        )

    def _whole(self, source: Source, geometry: ImageGeometry) -> Image.Image:
        """The photo that a puzzle's region is cut from."""
        photo = self._photo(source, geometry["scale"])
        if photo.size != tuple(geometry["size"]):
            raise ValueError(f"{source.path}: the photo is {photo.size}, the puzzle was cut from {geometry['size']}")
        if "resize" not in geometry:
            return photo
        width, height = geometry["resize"]
        return photo.resize((width, height), Image.Resampling.BICUBIC)

    def _photo(self, source: Source, scale: int) -> Image.Image:
        return self._photos.get((source.fingerprint, scale), lambda: read_photo(source.files["image"], scale))


def _mirrored(places: Sequence[Place], columns: int) -> list[Place]:
    """The piece at each place, in raster order, after the rows are reversed."""
    rows = [places[start : start + columns] for start in range(0, len(places), columns)]
    return [place for row in rows for place in reversed(row)]


def _augmented(tile: Image.Image, augment: Augment) -> Image.Image:
    """A tile with `augment` applied."""
    if augment["mirror"]:
        tile = tile.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if augment["channels"] == [0, 1, 2]:
        return tile
    bands = tile.split()
    return Image.merge("RGB", [bands[channel] for channel in augment["channels"]])


def _geometry(
    scale: int, size: tuple[int, int], region: Region, tile: tuple[int, int], shown: Sequence[int], layout: str
) -> ImageGeometry:
    return {
        "scale": scale,
        "size": list(size),
        "left": region.left,
        "top": region.top,
        "grid": [region.rows, region.columns],
        "cell": list(region.cell),
        "inset": list(region.inset),
        "tile": list(tile),
        "shown": list(shown),
        "layout": layout,
    }


def _region(geometry: ImageGeometry) -> Region:
    """The region that a puzzle's geometry describes."""
    rows, columns = geometry["grid"]
    width, height = geometry["cell"]
    inset = geometry["inset"]
    return Region(geometry["left"], geometry["top"], rows, columns, (width, height), (inset[0], inset[1]))
