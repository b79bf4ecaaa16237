"""A folder with one file of every sort builds into sets in which every shown frame and pixel is the right one.

What is right is said twice: by how the file was made (which picture, which frame at which moment), and by a second
decoder that reads the file on its own. Sorts that this machine cannot write are left out by name.
"""

import io
import json
import shutil
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from second_decoder import decoded
from synthetic_media import (
    encode,
    hide_start,
    later,
    number_in,
    numbered_frame,
    orient,
    photo_pixels,
    remux,
    write_video,
)

from jigsaw.data import build_puzzles, check_puzzles, load_puzzles
from jigsaw.data.loading.conversations import load_conversations
from jigsaw.tasks.media import colors

pytest.importorskip("imageio_ffmpeg", reason="the second decoder is not installed (the dev extra)")
pytestmark = pytest.mark.slow

WIDTH, HEIGHT = 168, 112
UPRIGHT = {  # EXIF orientation -> what makes stored pixels upright, with numpy
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
FINE = {"quality": 97, "subsampling": "4:4:4"}


def pixels(seed):
    return photo_pixels(WIDTH, HEIGHT, seed=seed)


def stored(upright, orientation):
    """What a camera held that way stores: the inverse of `UPRIGHT`."""
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    return np.ascontiguousarray(UPRIGHT[inverse](upright))


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def srgb_of_adobe(values):
    """sRGB of Adobe RGB numbers, from the definition of both (IEC 61966-2-1; Adobe RGB 1998), white D65 in both."""
    light = (np.asarray(values) / 255.0) ** (563 / 256)
    to_xyz = [[0.5767309, 0.1855540, 0.1881852], [0.2973769, 0.6273491, 0.0752741], [0.0270343, 0.0706872, 0.9911085]]
    to_srgb = [
        [3.2404542, -1.5371385, -0.4985314],
        [-0.9692660, 1.8760108, 0.0415560],
        [0.0556434, -0.2040259, 1.0572252],
    ]
    light = np.clip(light @ np.transpose(to_xyz) @ np.transpose(to_srgb), 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


ADOBE = colors.matrix_profile(colors.ADOBE_RGB, colors.ADOBE_GAMMA)


class Photos:
    """Picture files, each with its upright sRGB pixels as it was made and as the second decoder reads it."""

    def __init__(self, folder):
        self.folder, self.right, self.exact = folder, {}, set()
        self.count = 0
        folder.mkdir()

    def add(self, name, make, *, exact=False, kind="rgb24", read=lambda a: a, right=lambda a: a):
        """Write a file of pixels of its own.

        Args:
            make: gets the pixels and gives the bytes of the file.
            exact: whether the format keeps every pixel.
            kind: in which the second decoder reads it.
            read: makes upright sRGB of what the second decoder gives.
            right: makes upright sRGB of the pixels as they were made.
        """
        self.count += 1
        made = pixels(self.count)
        (self.folder / name).write_bytes(make(made))
        self.right[name] = (np.asarray(right(made), dtype=float), kind, read)
        self.exact |= {name} if exact else set()

    def second(self, name, file=None):
        right, kind, read = self.right[name]
        file = file or self.folder / name
        turned_sides = name.startswith(("turned-5", "turned-6", "turned-7", "turned-8"))
        size = right.shape[:2] if turned_sides else right.shape[1::-1]
        found = decoded(file, size, kind, turned=False, first=True)[0].astype(float)
        return read(found)


def save(kind, **options):
    return lambda made: encode(Image.fromarray(made), kind, **options)


def mixed_with_white(values):
    alpha = values[..., 3:] / 255
    return values[..., :3] * alpha + 255 * (1 - alpha)


def see_through(made):
    layer = Image.fromarray(made).convert("RGBA")
    layer.putalpha(Image.linear_gradient("L").resize(layer.size))
    return layer


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    made = Photos(tmp_path_factory.mktemp("sorts") / "photos")
    for orientation in range(1, 9):
        made.add(
            f"turned-{orientation}.jpg",
            lambda a, o=orientation: encode(Image.fromarray(stored(a, o)), "JPEG", exif=exif(o), **FINE),
            read=lambda a, o=orientation: UPRIGHT[o](a),
        )
    made.add("plain.png", save("PNG"), exact=True)
    made.add("adobe.png", save("PNG", icc_profile=ADOBE), read=srgb_of_adobe, right=srgb_of_adobe)
    made.add("adobe.jpg", save("JPEG", icc_profile=ADOBE, **FINE), read=srgb_of_adobe, right=srgb_of_adobe)
    made.add("adobe.tif", save("TIFF", icc_profile=ADOBE), read=srgb_of_adobe, right=srgb_of_adobe)
    made.add("lossless.webp", save("WEBP", lossless=True), exact=True)
    made.add("packed.tif", save("TIFF", compression="tiff_lzw"), exact=True)
    made.add("plain.bmp", save("BMP"), exact=True)
    made.add("plain.ppm", save("PPM"), exact=True)
    made.add("lossless.jp2", save("JPEG2000", irreversible=False), exact=True)
    made.add("plain.avif", save("AVIF", quality=98, subsampling="4:4:4"))
    made.add("named.jpg", save("PNG"), exact=True)
    made.add("no suffix", save("PNG"), exact=True)

    grey = lambda a: np.repeat(np.asarray(Image.fromarray(a).convert("L"))[..., None], 3, axis=2)  # noqa: E731
    wide = lambda a: Image.fromarray(grey(a)[..., 0].astype(np.uint16) * 257)  # noqa: E731
    deep = {"kind": "gray16be", "read": lambda a: np.repeat(a / 257, 3, axis=2), "right": grey, "exact": True}
    made.add("sixteen.png", lambda a: encode(wide(a)), **deep)
    made.add("sixteen.tif", lambda a: encode(wide(a), "TIFF"), **deep)
    made.add("grey.jpg", lambda a: encode(Image.fromarray(a).convert("L"), "JPEG", quality=97), right=grey)

    few = lambda a: Image.fromarray(a).quantize(64)  # noqa: E731
    of_palette = {"right": lambda a: np.asarray(few(a).convert("RGB")), "exact": True}
    made.add("palette.png", lambda a: encode(few(a)), **of_palette)
    made.add("still.gif", lambda a: encode(few(a), "GIF"), **of_palette)
    other = [Image.fromarray(pixels(900 + number)) for number in range(2)]
    moving = {"save_all": True, "append_images": other}
    made.add("moving.webp", save("WEBP", lossless=True, **moving), exact=True)
    made.add("moving.png", save("PNG", **moving), exact=True)
    clear = {"kind": "rgba", "read": mixed_with_white, "right": lambda a: mixed_with_white(np.asarray(see_through(a)))}
    made.add("clear.png", lambda a: encode(see_through(a)), **clear)
    made.add("clear.webp", lambda a: encode(see_through(a), "WEBP", lossless=True, exact=True), **clear)

    ink = lambda a: Image.fromarray(a).convert("CMYK")  # noqa: E731
    of_ink = lambda a: np.asarray(ink(a).convert("RGB"))  # noqa: E731
    made.add("ink.jpg", lambda a: encode(ink(a), "JPEG", quality=97), right=of_ink)
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
        made.add("phone.heic", save("HEIF", quality=98, chroma=444))
    except ImportError:
        pass
    return made


def whole_of(row):
    """The tiles of an image puzzle, put where the answer says."""
    rows, columns = row["geometry"]["grid"]
    tiles = [np.asarray(row["images"][number - 1]) for number in row["answer"]]
    return np.vstack([np.hstack(tiles[line * columns : (line + 1) * columns]) for line in range(rows)]).astype(float)


def require_right(photos, name, shown, file=None):
    right = photos.right[name][0]
    assert shown.shape == right.shape, name
    off = np.abs(shown - right)
    assert off.max() <= 1 if name in photos.exact else off.mean() < 3, (name, off.mean(), off.max())
    off = np.abs(shown - photos.second(name, file))
    assert off.max() <= 1 if name in photos.exact else off.mean() < 2, (name, off.mean(), off.max())


WHOLE = {"grid": "2x2", "crop": "none", "max_tile": "null", "flat": "keep"}


def test_every_pixel_of_every_sort_of_picture(photos, tmp_path):
    build_puzzles("image", photos.folder, tmp_path / "set", config=WHOLE, workers=2, progress=False)
    assert (tmp_path / "set" / "rejects.jsonl").read_text() == ""
    rows = load_puzzles(tmp_path / "set")
    assert {row["source"]["path"] for row in rows} == set(photos.right)
    for row in rows:
        require_right(photos, row["source"]["path"], whole_of(row))


def test_every_pixel_out_of_containers(photos, tmp_path):
    """Pictures in a joined tar, in a table, in a saved list; those in a zip are named as not read."""
    root = tmp_path / "packed"
    root.mkdir()
    names = ["turned-6.jpg", "adobe.png", "sixteen.png", "lossless.webp"]
    for number, half in enumerate((names[:2], names[2:])):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as archive:
            for name in half:
                archive.add(photos.folder / name, name)
    (root / "joined.tar").write_bytes((tmp_path / "0.tar").read_bytes() + (tmp_path / "1.tar").read_bytes())
    cells = [{"bytes": (photos.folder / name).read_bytes(), "path": name} for name in ("turned-8.jpg", "plain.png")]
    pq.write_table(pa.table({"image": cells, "caption": ["a", "b"]}), root / "table.parquet")
    with zipfile.ZipFile(root / "more.zip", "w") as archive:
        archive.write(photos.folder / "plain.bmp", "plain.bmp")
    build_puzzles("image", root, tmp_path / "set", config=WHOLE, workers=2, progress=False)
    (reject,) = map(json.loads, (tmp_path / "set" / "rejects.jsonl").read_text().splitlines())
    assert (reject["source"], reject["detail"]) == ("more.zip", ".zip archives are not read; unpack it")
    found = {row["source"]["path"]: whole_of(row) for row in load_puzzles(tmp_path / "set")}
    inside = {f"joined.tar::{name}": name for name in names}
    inside |= {f"table.parquet::{row}": name for row, name in enumerate(("turned-8.jpg", "plain.png"))}
    assert found.keys() == inside.keys()
    for path, name in inside.items():
        require_right(photos, name, found[path])


def test_every_pixel_of_conversations(photos, tmp_path):
    names = sorted(photos.right)
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A picture."}]
    lines = [json.dumps({"id": name, "image": name, "conversations": turns}) for name in names]
    (tmp_path / "c.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for row in load_conversations(tmp_path / "c.jsonl", photos.folder):
        require_right(photos, row["id"], np.asarray(row["images"][0]).astype(float))


# Videos: every frame carries its number, so that its moment is known whatever decoder reads it.

RATE, FRAMES, SIZE = 25, 100, (WIDTH, HEIGHT)
X264 = {"crf": "10", "preset": "veryfast", "g": "20", "bf": "2"}
MPEG = {"g": "15", "b": "6000000", "bf": "2"}
VPX = {"b": "4000000", "g": "30", "deadline": "good", "cpu-used": "5"}
GAPS = [20, 60, 40, 200]

CODED = {
    "b-frames.mp4": {"options": X264},
    "b-frames.mov": {"options": X264},
    "b-frames.mkv": {"options": X264},
    "b-frames.avi": {"options": X264},
    "b-frames.ts": {"options": X264, "form": "mpegts"},
    "b-frames.flv": {"options": X264},
    "open.mp4": {"options": X264 | {"x264-params": "open-gop=1"}},
    "hevc.mp4": {"codec": "libx265", "options": {"crf": "8", "x265-params": "log-level=none:keyint=20:bframes=4"}},
    "divx.avi": {"codec": "mpeg4", "options": MPEG},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": MPEG, "form": "mpeg"},
    "mpeg2.vob": {"codec": "mpeg2video", "options": MPEG, "form": "vob"},
    "windows.wmv": {"codec": "wmv2", "options": {"b": "6000000"}, "form": "asf"},
    "vp9.webm": {"codec": "libvpx-vp9", "options": VPX},
    "vp8.webm": {"codec": "libvpx", "options": VPX},
    "uneven.mp4": {"options": X264, "gaps": GAPS},
    "uneven.mkv": {"options": X264, "gaps": GAPS},
}


class Videos:
    """Video files, each with the number and the moment of every frame that is shown."""

    def __init__(self, folder):
        self.folder, self.right = folder, {}
        folder.mkdir()

    def add(self, path, numbers=range(FRAMES), times=None):
        times = np.arange(len(numbers)) / RATE if times is None else times
        self.right[path.name] = (list(numbers), np.asarray(times))


def changed_frame(number, size):
    return numbered_frame(number + 200, size)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    made = Videos(tmp_path_factory.mktemp("sorts") / "videos")
    base = {"frames": FRAMES, "rate": RATE, "size": SIZE}
    for name, how in CODED.items():
        times = np.cumsum([0, *(GAPS * FRAMES)[: FRAMES - 1]]) / 1000 if "gaps" in how else None
        made.add(write_video(made.folder / name, **base | how), times=times)
    plain = made.folder / "b-frames.mp4"
    for name, matrix in {
        "turned-90.mp4": (0, 1, -1, 0),
        "turned-180.mp4": (-1, 0, 0, -1),
        "turned-270.mp4": (0, -1, 1, 0),
        "mirrored.mp4": (-1, 0, 0, 1),
        "flipped.mp4": (1, 0, 0, -1),
        "transposed.mp4": (0, 1, 1, 0),
    }.items():
        made.add(orient(remux(plain, made.folder / name), matrix))
    narrow = {"setup": lambda stream: setattr(stream.codec_context, "sample_aspect_ratio", 2)}
    made.add(
        write_video(made.folder / "anamorphic.mp4", **base | {"size": (WIDTH // 2, HEIGHT)} | narrow, options=X264)
    )
    hidden = 12
    made.add(hide_start(plain, made.folder / "trimmed.mp4", hidden), range(hidden, FRAMES))
    made.add(remux(plain, made.folder / "delayed.mp4", later(12_800)))
    first = made.folder / "b-frames.ts"
    second = write_video(made.folder.parent / "second.ts", picture=changed_frame, **base | CODED["b-frames.ts"])
    joined = made.folder / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    made.add(joined, [*range(FRAMES), *range(200, 200 + FRAMES)])
    made.add(shutil.copy(made.folder / "b-frames.mkv", made.folder / "no suffix"))
    with (made.folder / "no suffix").open("ab") as file:
        file.write(bytes(8))  # no copy of the other
    return made


CLIPS = {"clips": 3, "min_duration": 1, "fps": 4, "max_frames": 4, "static": "keep"}


def require_right_frames(videos, name, row, file):
    """Every frame is the one on show at its moment, by its number and by the second decoder."""
    numbers, times = videos.right[name]
    geometry = row["geometry"]
    clips = [row["videos"][number - 1] for number in row["answer"]]
    size = (clips[0].frames.shape[2], clips[0].frames.shape[1])
    played = decoded(file, size, scale=size)
    assert len(played) == len(numbers), (name, len(played))
    for (start, end), clip in zip(geometry["spans"], clips, strict=True):
        count = len(clip.frames)
        moments = start + (np.arange(count) + 0.5) / count * (end - start)
        on_show = np.searchsorted(times, moments + 1e-4, side="right") - 1
        assert np.abs(clip.times - times[on_show]).max() < 0.003, (name, clip.times, times[on_show])
        for frame, index in zip(clip.frames, on_show, strict=True):
            off = np.abs(frame.astype(float) - played[index]).mean()
            assert off < 3, (name, index, off)
            if not name.startswith(("turned", "mirrored", "flipped", "transposed")):
                assert number_in(frame) == numbers[index], (name, index)


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_every_frame_of_every_sort_of_video(videos, tmp_path, decoder):
    config = CLIPS | {"decoder": decoder}
    build_puzzles("video", videos.folder, tmp_path / "set", config=config, workers=2, progress=False)
    assert (tmp_path / "set" / "rejects.jsonl").read_text() == ""
    rows = load_puzzles(tmp_path / "set")
    assert {row["source"]["path"] for row in rows} == set(videos.right)
    for row in rows:
        name = row["source"]["path"]
        require_right_frames(videos, name, row, videos.folder / name)
    assert check_puzzles(tmp_path / "set", workers=2, progress=False).ok


def test_every_frame_out_of_a_tar(videos, tmp_path):
    names = ["b-frames.ts", "turned-90.mp4", "divx.avi"]
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed" / "videos.tar", "w") as archive:
        for name in names:
            archive.add(videos.folder / name, name)
    build_puzzles("video", tmp_path / "packed", tmp_path / "set", config=CLIPS, workers=1, progress=False)
    rows = {row["source"]["path"].partition("::")[2]: row for row in load_puzzles(tmp_path / "set")}
    assert rows.keys() == set(names)
    for name, row in rows.items():
        require_right_frames(videos, name, row, videos.folder / name)


# Depth: the value at every point, and every pixel of the picture beside the discs.


def field(seed):
    """Depth in whole millimetres up to 8 m, in cells of their own depth."""
    rng = np.random.default_rng(seed)
    return np.kron(rng.permutation(np.linspace(800, 7800, 24)).reshape(4, 6).round(), np.ones((112, 112))).astype(
        np.uint16
    )


def write_exr(path, metres):
    openexr = pytest.importorskip("OpenEXR")
    channel = openexr.Channel("Y", metres, 1, 1)
    openexr.File({"type": openexr.scanlineimage}, {"Y": channel}).write(str(path))


def pfm(metres):
    return b"Pf\n%d %d\n-1.0\n" % metres.shape[::-1] + metres[::-1].astype("<f4").tobytes()


def npy(metres):
    stream = io.BytesIO()
    np.save(stream, metres)
    return stream.getvalue()


DEPTHS = {  # suffix -> bytes of a map in millimetres, how the second decoder reads it, in metres
    "png": (lambda mm: encode(Image.fromarray(mm)), "gray16be", 0.001),
    "tif": (lambda mm: encode(Image.fromarray(mm), "TIFF"), "gray16be", 0.001),
    "pfm": (lambda mm: pfm(mm / np.float32(1000)), "grayf32le", 1),
    "npy": (lambda mm: npy(mm / np.float32(1000)), None, 1),
    "exr": (None, "grayf32le", 1),
}


def test_every_point_of_every_sort_of_depth_map(tmp_path):
    root, right = tmp_path / "views", {}
    root.mkdir()
    size = (672, 448)
    for seed, (suffix, (make, _, _)) in enumerate(DEPTHS.items()):
        millimetres, photo = field(seed), photo_pixels(*size, seed=seed)
        for orientation in (1, 6):  # a quarter turn shows in the shape: the map is turned like the photo
            name = f"{suffix}{orientation}"
            color, depth = root / f"{name}.color.jpg", root / f"{name}.depth.{suffix}"
            turned, lying = stored(photo, orientation), stored(millimetres, orientation)
            color.write_bytes(encode(Image.fromarray(turned), "JPEG", exif=exif(orientation), **FINE))
            if make is None:
                write_exr(depth, lying.astype(np.float32) / 1000)
            else:
                depth.write_bytes(make(lying))
            right[f"{color.name}::{depth.name}"] = (millimetres / 1000, photo, orientation)
    build_puzzles("depth", root, tmp_path / "set", config={"points": 5}, workers=2, progress=False)
    assert (tmp_path / "set" / "rejects.jsonl").read_text() == ""
    rows = load_puzzles(tmp_path / "set")
    assert {row["source"]["path"] for row in rows} == set(right)
    for row in rows:
        path = row["source"]["path"]
        color, _, depth = path.partition("::")
        metres, photo, orientation = right[path]
        _, kind, unit = DEPTHS[depth.rpartition(".")[2]]
        points = [row["geometry"]["points"][rank] for rank in row["geometry"]["shown"]]
        in_order = [points[number - 1] for number in row["answer"]]
        values = [metres[y, x] for x, y in in_order]
        assert values == sorted(values)
        assert np.abs(np.subtract(row["geometry"]["depths"], values)).max() < 1e-3
        lying = metres.T.shape if orientation == 6 else metres.shape
        if kind is not None:
            second = UPRIGHT[orientation](decoded(root / depth, lying[::-1], kind, first=True)[0][..., 0]) * unit
            assert np.abs([second[y, x] for x, y in in_order] - np.array(values)).max() < 1e-3
        shown = np.asarray(row["images"][0]).astype(float)
        y, x = np.mgrid[: shown.shape[0], : shown.shape[1]]
        beside = np.all([np.hypot(x - px, y - py) > row["geometry"]["radius"] + 3 for px, py in points], axis=0)
        second = UPRIGHT[orientation](decoded(root / color, lying[::-1], turned=False)[0])
        assert np.abs(shown - photo)[beside].mean() < 3
        assert np.abs(shown - second)[beside].mean() < 2
