"""Builds puzzle sets from files of all formats and compares every shown pixel and frame with the expected one.

Expected pixels and frames come from two independent sources: the data from which the file was written, and a second
decoder that reads the file. Formats that this machine cannot write are skipped.
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
from second_decoder import decode_with_ffmpeg
from synthetic_media import (
    delay_by,
    encode,
    hide_start,
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
UPRIGHT = {  # EXIF orientation -> the numpy operation that makes stored pixels upright
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
    """The pixels that a camera with this orientation stores: the inverse of `UPRIGHT`."""
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    return np.ascontiguousarray(UPRIGHT[inverse](upright))


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def srgb_of_adobe(values):
    """sRGB values of Adobe RGB values by their definitions (IEC 61966-2-1; Adobe RGB 1998), both with white D65."""
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
    """Picture files, each with its expected upright sRGB pixels and those that the second decoder reads."""

    def __init__(self, folder):
        self.folder, self.right, self.exact = folder, {}, set()
        self.count = 0
        folder.mkdir()

    def add(self, name, make, *, exact=False, kind="rgb24", read=lambda a: a, right=lambda a: a):
        """Writes a file with new pixels.

        Args:
            make: function from the pixels to the bytes of the file.
            exact: whether the format keeps every pixel.
            kind: pixel format in which the second decoder reads it.
            read: function from the pixels of the second decoder to upright sRGB.
            right: function from the original pixels to upright sRGB.
        """
        self.count += 1
        original = pixels(self.count)
        (self.folder / name).write_bytes(make(original))
        self.right[name] = (np.asarray(right(original), dtype=float), kind, read)
        self.exact |= {name} if exact else set()

    def second(self, name, file=None):
        right, kind, read = self.right[name]
        file = file or self.folder / name
        turned_sides = name.startswith(("turned-5", "turned-6", "turned-7", "turned-8"))
        size = right.shape[:2] if turned_sides else right.shape[1::-1]
        decoded = decode_with_ffmpeg(file, size, kind, turned=False, first=True)[0].astype(float)
        return read(decoded)


def save(kind, **options):
    return lambda array: encode(Image.fromarray(array), kind, **options)


def blend_with_white(values):
    alpha = values[..., 3:] / 255
    return values[..., :3] * alpha + 255 * (1 - alpha)


def with_alpha(array):
    layer = Image.fromarray(array).convert("RGBA")
    layer.putalpha(Image.linear_gradient("L").resize(layer.size))
    return layer


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    files = Photos(tmp_path_factory.mktemp("sorts") / "photos")
    for orientation in range(1, 9):
        files.add(
            f"turned-{orientation}.jpg",
            lambda a, o=orientation: encode(Image.fromarray(stored(a, o)), "JPEG", exif=exif(o), **FINE),
            read=lambda a, o=orientation: UPRIGHT[o](a),
        )
    files.add("plain.png", save("PNG"), exact=True)
    files.add("adobe.png", save("PNG", icc_profile=ADOBE), read=srgb_of_adobe, right=srgb_of_adobe)
    files.add("adobe.jpg", save("JPEG", icc_profile=ADOBE, **FINE), read=srgb_of_adobe, right=srgb_of_adobe)
    files.add("adobe.tif", save("TIFF", icc_profile=ADOBE), read=srgb_of_adobe, right=srgb_of_adobe)
    files.add("lossless.webp", save("WEBP", lossless=True), exact=True)
    files.add("packed.tif", save("TIFF", compression="tiff_lzw"), exact=True)
    files.add("plain.bmp", save("BMP"), exact=True)
    files.add("plain.ppm", save("PPM"), exact=True)
    files.add("lossless.jp2", save("JPEG2000", irreversible=False), exact=True)
    files.add("plain.avif", save("AVIF", quality=98, subsampling="4:4:4"))
    files.add("named.jpg", save("PNG"), exact=True)
    files.add("no suffix", save("PNG"), exact=True)

    grey = lambda a: np.repeat(np.asarray(Image.fromarray(a).convert("L"))[..., None], 3, axis=2)  # noqa: E731
    wide = lambda a: Image.fromarray(grey(a)[..., 0].astype(np.uint16) * 257)  # noqa: E731
    deep = {"kind": "gray16be", "read": lambda a: np.repeat(a / 257, 3, axis=2), "right": grey, "exact": True}
    files.add("sixteen.png", lambda a: encode(wide(a)), **deep)
    files.add("sixteen.tif", lambda a: encode(wide(a), "TIFF"), **deep)
    files.add("grey.jpg", lambda a: encode(Image.fromarray(a).convert("L"), "JPEG", quality=97), right=grey)

    few = lambda a: Image.fromarray(a).quantize(64)  # noqa: E731
    of_palette = {"right": lambda a: np.asarray(few(a).convert("RGB")), "exact": True}
    files.add("palette.png", lambda a: encode(few(a)), **of_palette)
    files.add("still.gif", lambda a: encode(few(a), "GIF"), **of_palette)
    other = [Image.fromarray(pixels(900 + number)) for number in range(2)]
    moving = {"save_all": True, "append_images": other}
    files.add("moving.webp", save("WEBP", lossless=True, **moving), exact=True)
    files.add("moving.png", save("PNG", **moving), exact=True)
    clear = {"kind": "rgba", "read": blend_with_white, "right": lambda a: blend_with_white(np.asarray(with_alpha(a)))}
    files.add("clear.png", lambda a: encode(with_alpha(a)), **clear)
    files.add("clear.webp", lambda a: encode(with_alpha(a), "WEBP", lossless=True, exact=True), **clear)

    ink = lambda a: Image.fromarray(a).convert("CMYK")  # noqa: E731
    of_ink = lambda a: np.asarray(ink(a).convert("RGB"))  # noqa: E731
    files.add("ink.jpg", lambda a: encode(ink(a), "JPEG", quality=97), right=of_ink)
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
        files.add("phone.heic", save("HEIF", quality=98, chroma=444))
    except ImportError:
        pass
    return files


def solved_picture(row):
    """The picture of an image puzzle's tiles in the order of the answer."""
    rows, columns = row["geometry"]["grid"]
    tiles = [np.asarray(row["images"][number - 1]) for number in row["answer"]]
    return np.vstack([np.hstack(tiles[line * columns : (line + 1) * columns]) for line in range(rows)]).astype(float)


def assert_pixels(photos, name, shown, file=None):
    right = photos.right[name][0]
    assert shown.shape == right.shape, name
    difference = np.abs(shown - right)
    assert difference.max() <= 1 if name in photos.exact else difference.mean() < 3, (
        name,
        difference.mean(),
        difference.max(),
    )
    difference = np.abs(shown - photos.second(name, file))
    assert difference.max() <= 1 if name in photos.exact else difference.mean() < 2, (
        name,
        difference.mean(),
        difference.max(),
    )


CONFIG = {"grid": "2x2", "crop": "none", "max_tile": "null", "flat": "keep"}


def test_every_pixel_of_every_picture_format(photos, tmp_path):
    build_puzzles("image", photos.folder, tmp_path / "set", config=CONFIG, workers=2, progress=False)
    assert (tmp_path / "set" / "rejects.jsonl").read_text() == ""
    rows = load_puzzles(tmp_path / "set")
    assert {row["source"]["path"] for row in rows} == set(photos.right)
    for row in rows:
        assert_pixels(photos, row["source"]["path"], solved_picture(row))


def test_every_pixel_of_pictures_in_containers(photos, tmp_path):
    """Pictures in a concatenated tar and a table are read; a zip is rejected with a reason."""
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
    build_puzzles("image", root, tmp_path / "set", config=CONFIG, workers=2, progress=False)
    (reject,) = map(json.loads, (tmp_path / "set" / "rejects.jsonl").read_text().splitlines())
    assert (reject["source"], reject["detail"]) == ("more.zip", ".zip archives are not read; unpack it")
    pictures = {row["source"]["path"]: solved_picture(row) for row in load_puzzles(tmp_path / "set")}
    inside = {f"joined.tar::{name}": name for name in names}
    inside |= {f"table.parquet::{row}": name for row, name in enumerate(("turned-8.jpg", "plain.png"))}
    assert pictures.keys() == inside.keys()
    for path, name in inside.items():
        assert_pixels(photos, name, pictures[path])


def test_every_pixel_of_conversations(photos, tmp_path):
    names = sorted(photos.right)
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A picture."}]
    lines = [json.dumps({"id": name, "image": name, "conversations": turns}) for name in names]
    (tmp_path / "c.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for row in load_conversations(tmp_path / "c.jsonl", photos.folder):
        assert_pixels(photos, row["id"], np.asarray(row["images"][0]).astype(float))


# Videos: every frame shows its number, so that its time is known with any decoder.

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
    """Video files, each with the number and the time of every visible frame."""

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
    files = Videos(tmp_path_factory.mktemp("sorts") / "videos")
    base = {"frames": FRAMES, "rate": RATE, "size": SIZE}
    for name, options in CODED.items():
        times = np.cumsum([0, *(GAPS * FRAMES)[: FRAMES - 1]]) / 1000 if "gaps" in options else None
        files.add(write_video(files.folder / name, **base | options), times=times)
    plain = files.folder / "b-frames.mp4"
    for name, matrix in {
        "turned-90.mp4": (0, 1, -1, 0),
        "turned-180.mp4": (-1, 0, 0, -1),
        "turned-270.mp4": (0, -1, 1, 0),
        "mirrored.mp4": (-1, 0, 0, 1),
        "flipped.mp4": (1, 0, 0, -1),
        "transposed.mp4": (0, 1, 1, 0),
    }.items():
        files.add(orient(remux(plain, files.folder / name), matrix))
    narrow = {"setup": lambda stream: setattr(stream.codec_context, "sample_aspect_ratio", 2)}
    files.add(
        write_video(files.folder / "anamorphic.mp4", **base | {"size": (WIDTH // 2, HEIGHT)} | narrow, options=X264)
    )
    hidden = 12
    files.add(hide_start(plain, files.folder / "trimmed.mp4", hidden), range(hidden, FRAMES))
    files.add(remux(plain, files.folder / "delayed.mp4", delay_by(12_800)))
    first = files.folder / "b-frames.ts"
    second = write_video(files.folder.parent / "second.ts", picture=changed_frame, **base | CODED["b-frames.ts"])
    concatenated = files.folder / "joined.ts"
    concatenated.write_bytes(first.read_bytes() + second.read_bytes())
    files.add(concatenated, [*range(FRAMES), *range(200, 200 + FRAMES)])
    files.add(shutil.copy(files.folder / "b-frames.mkv", files.folder / "no suffix"))
    with (files.folder / "no suffix").open("ab") as file:
        file.write(bytes(8))  # not a copy of the other file
    return files


CLIPS = {"clips": 3, "min_duration": 1, "fps": 4, "max_frames": 4, "static": "keep"}


def assert_frames(videos, name, row, file):
    """Asserts that every frame is the one at its time, by its number and by the second decoder."""
    numbers, times = videos.right[name]
    geometry = row["geometry"]
    clips = [row["videos"][number - 1] for number in row["answer"]]
    size = (clips[0].frames.shape[2], clips[0].frames.shape[1])
    decoded = decode_with_ffmpeg(file, size, scale=size)
    assert len(decoded) == len(numbers), (name, len(decoded))
    for (start, end), clip in zip(geometry["spans"], clips, strict=True):
        count = len(clip.frames)
        sample_times = start + (np.arange(count) + 0.5) / count * (end - start)
        expected_frames = np.searchsorted(times, sample_times + 1e-4, side="right") - 1
        assert np.abs(clip.times - times[expected_frames]).max() < 0.003, (name, clip.times, times[expected_frames])
        for frame, index in zip(clip.frames, expected_frames, strict=True):
            difference = np.abs(frame.astype(float) - decoded[index]).mean()
            assert difference < 3, (name, index, difference)
            if not name.startswith(("turned", "mirrored", "flipped", "transposed")):
                assert number_in(frame) == numbers[index], (name, index)


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_every_frame_of_every_video_format(videos, tmp_path, decoder):
    config = CLIPS | {"decoder": decoder}
    build_puzzles("video", videos.folder, tmp_path / "set", config=config, workers=2, progress=False)
    assert (tmp_path / "set" / "rejects.jsonl").read_text() == ""
    rows = load_puzzles(tmp_path / "set")
    assert {row["source"]["path"] for row in rows} == set(videos.right)
    for row in rows:
        name = row["source"]["path"]
        assert_frames(videos, name, row, videos.folder / name)
    assert check_puzzles(tmp_path / "set", workers=2, progress=False).ok


def test_every_frame_of_videos_in_a_tar(videos, tmp_path):
    names = ["b-frames.ts", "turned-90.mp4", "divx.avi"]
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed" / "videos.tar", "w") as archive:
        for name in names:
            archive.add(videos.folder / name, name)
    build_puzzles("video", tmp_path / "packed", tmp_path / "set", config=CLIPS, workers=1, progress=False)
    rows = {row["source"]["path"].partition("::")[2]: row for row in load_puzzles(tmp_path / "set")}
    assert rows.keys() == set(names)
    for name, row in rows.items():
        assert_frames(videos, name, row, videos.folder / name)


# Depth: the value at every point, and every pixel of the picture outside the discs.


def field(seed):
    """Depth in integer millimetres up to 8 m, in cells of constant depth."""
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


DEPTHS = {  # suffix -> bytes of a map in millimetres, pixel format of the second decoder, its unit in metres
    "png": (lambda mm: encode(Image.fromarray(mm)), "gray16be", 0.001),
    "tif": (lambda mm: encode(Image.fromarray(mm), "TIFF"), "gray16be", 0.001),
    "pfm": (lambda mm: pfm(mm / np.float32(1000)), "grayf32le", 1),
    "npy": (lambda mm: npy(mm / np.float32(1000)), None, 1),
    "exr": (None, "grayf32le", 1),
}


def test_every_point_of_every_depth_format(tmp_path):
    root, right = tmp_path / "views", {}
    root.mkdir()
    size = (672, 448)
    for seed, (suffix, (make, _, _)) in enumerate(DEPTHS.items()):
        millimetres, photo = field(seed), photo_pixels(*size, seed=seed)
        for orientation in (1, 6):  # the shape shows the quarter turn: the map is rotated like the photo
            name = f"{suffix}{orientation}"
            color, depth = root / f"{name}.color.jpg", root / f"{name}.depth.{suffix}"
            rotated, sideways = stored(photo, orientation), stored(millimetres, orientation)
            color.write_bytes(encode(Image.fromarray(rotated), "JPEG", exif=exif(orientation), **FINE))
            if make is None:
                write_exr(depth, sideways.astype(np.float32) / 1000)
            else:
                depth.write_bytes(make(sideways))
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
        sideways = metres.T.shape if orientation == 6 else metres.shape
        if kind is not None:
            second = (
                UPRIGHT[orientation](decode_with_ffmpeg(root / depth, sideways[::-1], kind, first=True)[0][..., 0])
                * unit
            )
            assert np.abs([second[y, x] for x, y in in_order] - np.array(values)).max() < 1e-3
        shown = np.asarray(row["images"][0]).astype(float)
        y, x = np.mgrid[: shown.shape[0], : shown.shape[1]]
        outside = np.all([np.hypot(x - px, y - py) > row["geometry"]["radius"] + 3 for px, py in points], axis=0)
        second = UPRIGHT[orientation](decode_with_ffmpeg(root / color, sideways[::-1], turned=False)[0])
        assert np.abs(shown - photo)[outside].mean() < 3
        assert np.abs(shown - second)[outside].mean() < 2
