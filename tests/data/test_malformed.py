"""Malformed manifests, parts and rows: each is read correctly or refused with a line that names file, key and remedy.

Whatever their contents, the only exception is a `JigsawError`, since all others are reported as bugs of jigsaw.
"""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jigsaw.data import build_puzzles, check_puzzles, load_puzzles, preview_puzzles, read_manifest
from jigsaw.data.inspection.check import CheckReport, _groups_of
from jigsaw.data.storage.manifest import Manifest
from jigsaw.data.storage.parts import finished_part
from jigsaw.errors import JigsawError

SETTINGS = {"config": {"grid": "2x2"}, "workers": 1, "progress": False}
DEEP = "[" * 100_000 + "]" * 100_000
HUGE = "1" + "0" * 400
HUGER = "1" + "0" * 5000
"""More digits than Python converts to an integer."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
many_examples = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def built(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("malformed") / "set"
    build_puzzles("image", photos, folder, **SETTINGS)
    return folder


@pytest.fixture
def copy(built, tmp_path):
    return shutil.copytree(built, tmp_path / "set")


def error_of(call, *args, **options):
    with pytest.raises(JigsawError) as error:
        call(*args, **options)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


def change_manifest(folder, key, raw):
    """Replaces a value of the manifest by the JSON text `raw`; `counts.puzzles` is a nested key."""
    file = folder / "manifest.json"
    record = json.loads(file.read_text())
    place = record
    *above, last = key.split(".")
    for name in above:
        place = place[name]
    place[last] = "@"
    file.write_text(json.dumps(record).replace('"@"', raw))


@pytest.mark.parametrize(
    ("key", "raw", "message"),
    [
        ("format", "2", "format is 2, and this version reads format 1"),
        ("task", "null", "task is null, not a text"),
        ("task", '"imgae"', "was built by task imgae, not by image"),
        ("spec", "5", "spec is 5, not a text"),
        ("config", "[]", "config is a list, not an object"),
        ("config", '{"gird": "2x2"}', "task image has no key 'gird'; did you mean grid?"),
        ("config", '{"grid": 5}', "task image: grid=5"),
        ("config", f'{{"grid": "2x2", "margin": {HUGE}}}', "task image: margin="),
        ("seed", '"x"', "seed is 'x', not a whole number"),
        ("seed", "1e400", "seed is inf, not a whole number"),
        ("per_source", "0", "per_source is 0, not a number from 1"),
        ("per_source", HUGE, "per_source is a number of 401 digits, not a number from 1"),
        ("limit", "-1", "limit is -1, not null or a number from 1"),
        ("split", '"test"', "split is 'test', not null, train or heldout"),
        ("heldout", "NaN", "heldout is nan, not null or a fraction"),
        ("materialize", "1", "materialize is 1, not true or false"),
        ("parts", "1.5", "parts is 1.5, not a number from 1 to 99999"),
        ("parts", HUGE, "parts is a number of 401 digits, not a number from 1 to 99999"),
        ("num_sources", "true", "num_sources is true, not a count"),
        ("listing", "{}", "listing is an object, not a text"),
        ("imported", "false", "imported is false, not null or a text"),
        ("source_root", r'"a\u0000b"', r"source_root is 'a\x00b', not a text"),
        ("source_root", "[]", "source_root is a list, not a text"),
        ("shard", "[0]", "shard is a list, not a list of number and count"),
        ("shard", "[3, 2]", "shard is a list, not a list of number and count"),
        ("complete", '"yes"', "complete is 'yes', not true or false"),
        ("counts", "null", "counts is null, not an object"),
        ("counts.puzzles", '"12"', "counts.puzzles is '12', not a count"),
        ("counts.rejects", '{"a": -1}', "counts.rejects is an object, not an object of counts"),
        ("versions", "5", "versions is 5, not an object of texts"),
    ],
)
def test_the_error_for_an_invalid_value_names_its_key(copy, key, raw, message):
    change_manifest(copy, key, raw)
    for call in (load_puzzles, check_puzzles, preview_puzzles):
        assert message in error_of(call, copy)


@pytest.mark.parametrize(
    "key", ["format", "task", "config", "seed", "parts", "shard", "counts", "complete", "versions"]
)
def test_the_error_for_a_missing_key_names_it(copy, key):
    record = json.loads((copy / "manifest.json").read_text())
    del record[key]
    (copy / "manifest.json").write_text(json.dumps(record))
    message = error_of(load_puzzles, copy)
    assert str(copy / "manifest.json") in message and key in message and "rebuild the folder" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[]", "is not a JSON object but a list"),
        (b"5", "is not a JSON object but 5"),
        (HUGE.encode(), "is not a JSON object but a number of 401 digits"),
        (HUGER.encode(), "is not JSON"),
        (DEEP.encode(), "is nested too deeply"),
        (b'{"a": ' * 100_000, "is nested too deeply"),
        ("{}".encode("utf-16-le"), "UTF-16"),
        (b'{"task": "\xe9"}', "is not UTF-8 (byte 0xe9)"),
    ],
    ids=["nothing", "half", "a list", "a number", "401 digits", "5001 digits", "deep", "deeper", "UTF-16", "Latin-1"],
)
@pytest.mark.parametrize("call", [load_puzzles, check_puzzles, preview_puzzles, read_manifest])
def test_the_error_for_an_invalid_manifest_names_the_file_and_the_remedy(copy, call, content, message):
    (copy / "manifest.json").write_bytes(content)
    error = error_of(call, copy)
    assert error.startswith(str(copy / "manifest.json"))
    assert message in error and "rebuild the folder with `jigsaw build`" in error


def test_a_build_over_a_damaged_manifest_is_refused_and_changes_nothing(copy, photos):
    (copy / "manifest.json").write_text(DEEP)
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    assert "is nested too deeply" in error_of(build_puzzles, "image", photos, copy, **SETTINGS)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_a_manifest_with_a_byte_order_mark_is_read(copy):
    file = copy / "manifest.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(load_puzzles(copy)) == 12


@many_examples
@given(data=st.data())
def test_any_manifest_is_read_or_refused(built, data):
    record = json.loads((built / "manifest.json").read_text())
    for key in data.draw(st.lists(st.sampled_from([*record, "more"]), min_size=1, max_size=3)):
        record[key] = data.draw(json_values)
    try:
        manifest = Manifest.from_json(record)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest


# Parts


def rewrite_part(folder, change, schema=None):
    """Changes every row of a set's only part and keeps its metadata."""
    (file,) = folder.glob("*.parquet")
    table, metadata = pq.read_table(file), pq.read_metadata(file).metadata
    schema = schema(table.schema) if schema else table.schema
    with pq.ParquetWriter(file, schema) as writer:
        writer.write_table(pa.Table.from_pylist([change(row) for row in table.to_pylist()], schema=schema))
        writer.add_key_value_metadata({key: value for key, value in metadata.items() if key != b"ARROW:schema"})


def with_column_type(name, kind):
    return lambda schema: schema.set(schema.get_field_index(name), pa.field(name, kind))


@pytest.mark.parametrize(
    ("column", "kind", "value"),
    [
        ("id", pa.int64(), 5),
        ("answer", pa.list_(pa.string()), ["1"]),
        ("answer", pa.int32(), 1),
        ("prompt", pa.string(), "what?"),
        ("source", pa.string(), "a.png"),
        ("geometry", pa.struct([("grid", pa.int32())]), {"grid": 2}),
        ("num_pieces", pa.string(), "4"),
        ("classes", pa.list_(pa.float64()), [0.5]),
        ("images", pa.list_(pa.string()), ["a.png"]),
    ],
)
def test_the_error_for_a_column_of_another_type_names_the_part(copy, column, kind, value):
    rewrite_part(copy, lambda row: row | {column: value}, with_column_type(column, kind))
    for call in (load_puzzles, preview_puzzles):
        message = error_of(call, copy)
        assert f"parquet: column {column} has type " in message and "build the part again" in message
    (part,) = copy.glob("*.parquet")
    report = CheckReport()
    assert list(_groups_of(part, finished_part(part)[0], report, set())) == []
    assert f"column {column} has type " in report.faults[0].what


def test_the_error_for_a_missing_column_names_the_part(copy):
    rewrite_part(copy, lambda row: row, lambda schema: schema.remove(schema.get_field_index("answer_style")))
    assert "has no column answer_style; build the part again" in error_of(load_puzzles, copy)


@pytest.mark.parametrize(
    "metadata", [b"", b"[]", b'{"settings": "x"}', b'{"settings": "x", "counts": {}}', DEEP.encode()]
)
def test_invalid_metadata_of_a_part_are_refused(copy, metadata):
    (file,) = copy.glob("*.parquet")
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata({b"jigsaw": metadata}), file)
    assert "was not written by `jigsaw build`, or is damaged" in error_of(finished_part, file)


# Rows

VALID_TURN = {"role": "user", "content": [{"type": "text", "text": "a"}, *[{"type": "image"}] * 4]}


ROWS = [
    ({"id": None}, "its id is null"),
    ({"answer": None}, "its answer is null"),
    ({"answer": []}, "its answer is empty"),
    ({"answer": [1, None, 3, 4]}, "its answer has a null"),
    ({"answer": [1, 2, 3, 3]}, "answer [1, 2, 3, 3] is not a permutation of 1..4"),
    ({"answer": [1, 2]}, "num_pieces is 4, and its answer has 2 numbers"),
    ({"num_pieces": None}, "num_pieces is None, and its answer has 4 numbers"),
    ({"classes": [0]}, "1 classes for 4 pieces"),
    ({"classes": [0, 1, None, 2]}, "its classes has a null"),
    ({"answer_style": "loud"}, "answer_style 'loud' is not one of"),
    ({"source": None}, "its source is null"),
    ({"source": {"path": None, "fingerprint": "x"}}, "its source.path is null or empty"),
    ({"prompt": []}, "its prompt is empty"),
    ({"prompt": [None]}, "turn 1 of its prompt has no role or no content"),
    ({"prompt": [{"role": "user", "content": None}]}, "turn 1 of its prompt has no role or no content"),
    (
        {"prompt": [VALID_TURN, {"role": "user", "content": [{"type": "sound"}]}]},
        "turn 2 of its prompt has a part of type",
    ),
    ({"prompt": [{"role": "user", "content": [{"type": "text"}]}]}, "or one without its text"),
    ({"geometry": None}, "its geometry is null"),
    ({"geometry": "{"}, "the geometry is not valid JSON"),
    ({"geometry": "[]"}, "the geometry is a list, not an object"),
    ({"geometry": DEEP}, "the geometry is nested too deeply"),
    ({"geometry": f'{{"grid": {HUGER}}}'}, "the geometry is not valid JSON"),
]


@pytest.mark.parametrize(("change", "message"), ROWS)
def test_an_invalid_row_is_an_error_when_it_is_read(copy, change, message):
    rewrite_part(copy, lambda row: row | change)
    error = error_of(lambda: load_puzzles(copy)[0])
    assert message in error and "build the set again" in error
    assert message in error_of(preview_puzzles, copy)


def test_a_check_counts_every_invalid_row(copy):
    """Each row is invalid in another way, and none of them ends the check."""
    changes = iter([change for change, _ in ROWS for _ in range(1 if "source" not in change else 0)])
    rewrite_part(copy, lambda row: row | next(changes, {"answer": [4, 4, 4, 4]}))
    report = check_puzzles(copy, workers=1, progress=False)
    assert report.rows == 12
    assert report.num_faults >= 12
    assert not any("crashed" in fault.what for fault in report.faults)


@many_examples
@example(geometry={})
@example(geometry={"scale": 0, "size": [160, 128], "tile": ["a"], "shown": [9]})
@given(
    geometry=st.dictionaries(st.sampled_from(["scale", "size", "left", "grid", "cell", "tile", "shown"]), json_values)
)
def test_any_geometry_is_rendered_or_refused(built, geometry):
    rows = load_puzzles(built)
    stored = rows.with_format(None)[0]
    stored_geometry = json.loads(stored["geometry"])
    batch = {name: [value] for name, value in stored.items()}
    for changed_geometry in (geometry, stored_geometry | geometry):
        # The new id prevents the use of cached media.
        batch |= {"geometry": [json.dumps(changed_geometry)], "id": [json.dumps(changed_geometry)]}
        try:
            rows.format["format_kwargs"]["transform"](batch)
        except JigsawError as error:
            assert "\n" not in str(error)


def test_a_prompt_that_begins_with_a_brace_is_compared_as_text(copy, photos):
    def braces(row):
        first, *others = row["prompt"][0]["content"]
        return row | {"prompt": [{"role": "user", "content": [first | {"text": "{" + first["text"]}, *others]}]}

    rewrite_part(copy, braces)
    report = check_puzzles(copy, workers=1, progress=False)
    assert {fault.what for fault in report.faults} == {"planned again, it differs in prompt"}


@pytest.mark.parametrize("line", ["5", "{}", "{", DEEP])
def test_the_error_for_a_damaged_list_of_rejects_names_the_line(copy, line):
    (copy / "rejects.jsonl").write_text('{"source": "a.png", "reason": "unreadable"}\n' + line + "\n")
    assert "rejects.jsonl: line 2 " in error_of(preview_puzzles, copy)
