"""Pictures in tables: the column is chosen by its content and name, and all storage types are read."""

import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from synthetic_media import encode, photo_pixels

from jigsaw.data.sources import open_source, scan
from jigsaw.data.sources.recognition import Skipped

PICTURES = [encode(Image.fromarray(photo_pixels(64, 48, seed=number))) for number in range(3)]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
STRUCTS = [{"bytes": picture, "path": f"{number}.png"} for number, picture in enumerate(PICTURES)]


def read(folder, table, *, saved=False):
    """The paths and bytes of the items of a table, and the counts of skipped columns."""
    source = folder / "t.parquet"
    if saved:
        import datasets

        source = folder / "saved"
        datasets.Dataset(table).save_to_disk(source)
    else:
        pq.write_table(table, source, row_group_size=2)
    skipped = Skipped()
    entries = list(scan(source, "image", skipped=skipped))
    names = [path.partition("::")[2] if isinstance(path, str) else path for path in entries]
    opened = [open_source(folder, path, "image").files["image"] for path in entries if isinstance(path, str)]
    return names, opened, dict(skipped)


TYPES = {
    "binary": pa.array(PICTURES, pa.binary()),
    "large binary": pa.array(PICTURES, pa.large_binary()),
    "view": pa.array(PICTURES, pa.binary_view()),
    "dictionary": pa.array(PICTURES, pa.binary()).dictionary_encode(),
    "struct": pa.array(STRUCTS, STRUCT),
    "struct with other fields": pa.array([{"path": None, "bytes": picture, "width": 64} for picture in PICTURES]),
}


@pytest.mark.parametrize("kind", TYPES)
def test_pictures_are_read_from_every_column_type(tmp_path, kind):
    names, opened, skipped = read(tmp_path, pa.table({"problem": ["q"] * 3, "image": TYPES[kind]}))
    assert (names, opened, skipped) == (["0", "1", "2"], PICTURES, {})


LISTS = {
    "list of structs": pa.list_(STRUCT),
    "large list of structs": pa.large_list(STRUCT),
    "list of bytes": pa.list_(pa.binary()),
}


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("kind", LISTS)
def test_every_picture_of_a_list_is_an_item(tmp_path, kind, saved):
    one = (lambda number: STRUCTS[number]) if "structs" in kind else (lambda number: PICTURES[number])
    cells = [[one(0)], [one(1), one(2)], [one(0)]]
    names, opened, _ = read(
        tmp_path, pa.table({"problem": ["q"] * 3, "images": pa.array(cells, LISTS[kind])}), saved=saved
    )
    assert names == ["0/0", "1/0", "1/1", "2/0"]
    assert opened == [PICTURES[0], PICTURES[1], PICTURES[2], PICTURES[0]]


def test_rows_without_pictures_are_rejects(tmp_path):
    table = pa.table(
        {"images": pa.array([[STRUCTS[0]], [], None, [{"bytes": None, "path": "far/away.png"}]], pa.list_(STRUCT))}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    entries = list(scan(tmp_path / "t.parquet", "image"))
    assert entries == ["t.parquet::0/0", "t.parquet::1", "t.parquet::2", "t.parquet::3/0"]
    for path, expected in (
        ("1", "row 1 of t.parquet is empty"),
        ("2", "is empty"),
        ("3/0", "names the file far/away.png"),
    ):
        with pytest.raises(OSError, match=expected):
            open_source(tmp_path, f"t.parquet::{path}", "image")
    with pytest.raises(OSError, match="does not exist"):
        open_source(tmp_path, "t.parquet::0/7", "image")


HASHES = pa.array([os.urandom(32) for _ in PICTURES], pa.binary())
THUMBS = pa.array([encode(Image.fromarray(photo_pixels(8, 8, seed=9))) for _ in PICTURES], pa.binary())


@pytest.mark.parametrize(
    ("columns", "others"),
    [
        ({"sha256": HASHES, "jpg": TYPES["binary"]}, []),
        ({"thumb": pa.array([b""] * 3), "content": TYPES["binary"]}, []),
        ({"thumb": pa.array([None] * 3, pa.binary()), "picture": TYPES["struct"]}, []),
        ({"embedding": pa.array([os.urandom(16) for _ in PICTURES], pa.binary(16)), "x": TYPES["view"]}, []),
        ({"thumbnail": THUMBS, "original": TYPES["binary"]}, ["thumbnail"]),
        ({"left": THUMBS, "image": TYPES["struct"]}, ["left"]),
        ({"mask": pa.array([{"bytes": bytes(99), "path": None}] * 3), "photo": TYPES["dictionary"]}, []),
    ],
)
def test_the_column_is_chosen_by_content_and_name(tmp_path, columns, others):
    _, opened, skipped = read(tmp_path, pa.table(columns))
    assert opened == PICTURES
    assert skipped == {f"column {name}": 3 for name in others}


def test_a_table_without_bytes_is_refused_with_its_columns_and_types(tmp_path):
    (problem,), _, _ = read(tmp_path, pa.table({"image": ["a.png"], "size": [3], "images": pa.array([["a.png"]])}))
    assert problem.reason == "unreadable"
    assert "no column has bytes of media (columns: image: string, size: int64" in problem.detail


def test_concatenated_parquet_files_are_refused(tmp_path):
    for name, number in (("a", 1), ("b", 3)):
        pq.write_table(
            pa.table({"image": PICTURES[:number]}), tmp_path / f"{name}.parquet", write_page_index=name == "a"
        )
    for first, second in (("a", "b"), ("b", "a"), ("a", "a")):
        with (tmp_path / "t.parquet").open("wb") as concatenated:
            for name in (first, second):
                with (tmp_path / f"{name}.parquet").open("rb") as part:
                    shutil.copyfileobj(part, concatenated)
        (problem,) = scan(tmp_path / "t.parquet", "image")
        assert "several Parquet files concatenated into one" in problem.detail
    for name in ("a", "b"):
        assert all(isinstance(entry, str) for entry in scan(tmp_path / f"{name}.parquet", "image"))
