"""`manifest.json`: sources, settings and progress of a set.

In: the settings of a build and the counts of its parts. Out: a JSON file, written atomically; the comparison by which a
build with other settings is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jigsaw.data.storage.settings import MOST, MOST_PARTS, Settings
from jigsaw.errors import JigsawError
from jigsaw.files import write_atomically
from jigsaw.text import named, read_object

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Numbers of sources and puzzles, and of rejected puzzles by reason."""

    sources: int = 0
    puzzles: int = 0
    rejects: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: Counts) -> Counts:
        reasons = sorted({*self.rejects, *other.rejects})
        rejects = {reason: self.rejects.get(reason, 0) + other.rejects.get(reason, 0) for reason in reasons}
        return Counts(sources=self.sources + other.sources, puzzles=self.puzzles + other.puzzles, rejects=rejects)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The manifest of a set.

    Attributes:
        source_root: absolute path of the sources on the machine of the build.
        source_relative: the same path relative to the set; it stays valid when both are moved together.
        source_name: the list, tar, table or saved data set below the root; empty for the whole folder.
        shard: index and count, `(0, 1)` for a set in one shard.
        complete: whether all parts of the shard are written.
        skipped: numbers of skipped files by suffix or kind.
        versions: of the packages that affect rows and pixels.
    """

    settings: Settings
    source_root: str
    source_relative: str
    source_name: str = ""
    shard: tuple[int, int] = (0, 1)
    complete: bool = False
    counts: Counts = Counts()
    skipped: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON values."""
        record = {"format": FORMAT, **asdict(self.settings), **asdict(self)}
        del record["settings"]
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Manifest:
        """The inverse of `to_json`.

        Raises:
            ValueError: the record is not valid; the message names the key.
        """
        if record.get("format") != FORMAT:
            raise ValueError(f"format is {named(record.get('format'))}, and this version reads format {FORMAT}")
        values = {**_OPTIONAL, **record}
        for name, (wanted, is_valid) in _FORM.items():
            if name not in values:
                raise ValueError(f"{name} is missing")
            if not is_valid(values[name]):
                raise ValueError(f"{name} is {named(values[name])}, not {wanted}")
        settings = Settings(**{item.name: values[item.name] for item in fields(Settings)})
        own = {item.name: values[item.name] for item in fields(cls) if item.name != "settings"}
        own |= {"shard": tuple(values["shard"]), "counts": counts_of(values["counts"])}
        return cls(settings=settings, **own)


def counts_of(record: Any) -> Counts:
    """The counts in a manifest or a part.

    Raises:
        ValueError: the record is not valid; the message names the key.
    """
    if not isinstance(record, dict) or set(record) != {"sources", "puzzles", "rejects"}:
        raise ValueError("counts is not an object of sources, puzzles and rejects")
    for name, value in record.items():
        wanted, is_valid = ("an object of counts", _is_counts) if name == "rejects" else ("a count", _is_count)
        if not is_valid(value):
            raise ValueError(f"counts.{name} is {named(value)}, not {wanted}")
    return Counts(**record)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MOST


def _is_positive(value: Any) -> bool:
    return _is_count(value) and value > 0


def _is_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_count, value.values()))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_shard(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_count, value)) and value[0] < value[1]


_Form = tuple[str, Callable[[Any], bool]]
_TEXT: _Form = ("a text", _is_text)

# Not with pydantic, which refuses the surrogates in names of files that are not UTF-8.
_FORM: Mapping[str, _Form] = {
    **dict.fromkeys(("task", "spec", "listing", "source_root", "source_relative", "source_name"), _TEXT),
    "config": ("an object", lambda value: isinstance(value, dict)),
    "seed": ("a whole number", lambda value: type(value) is int),
    "per_source": ("a number from 1", _is_positive),
    "limit": ("null or a number from 1", lambda value: value is None or _is_positive(value)),
    "split": ("null, train or heldout", lambda value: value in (None, "train", "heldout")),
    "heldout": ("null or a fraction", lambda value: value is None or (isinstance(value, float) and 0 < value < 1)),
    "materialize": ("true or false", lambda value: isinstance(value, bool)),
    "parts": (f"a number from 1 to {MOST_PARTS}", lambda value: _is_positive(value) and value <= MOST_PARTS),
    "num_sources": ("a count", _is_count),
    "imported": ("null or a text", lambda value: value is None or _is_text(value)),
    "shard": ("a list of number and count", _is_shard),
    "complete": ("true or false", lambda value: isinstance(value, bool)),
    "counts": ("an object", lambda value: isinstance(value, dict)),
    "skipped": ("an object of counts", _is_counts),
    "versions": ("an object of texts", lambda value: isinstance(value, dict) and all(map(_is_text, value.values()))),
}
"""Key of a manifest -> description and test of a valid value."""

_OPTIONAL: Mapping[str, Any] = {"source_name": "", "skipped": {}, "imported": None}


def package_versions() -> dict[str, str]:
    """Versions of the packages that affect rows and pixels."""
    return {name: version(name) for name in ("visual-jigsaw", "pillow", "numpy", "pyarrow", "av")}


def manifest_name(shard: tuple[int, int]) -> str:
    """File name of a shard's manifest.

    >>> manifest_name((0, 1)), manifest_name((2, 8))
    ('manifest.json', 'manifest-2-of-8.json')
    """
    return "manifest.json" if shard == (0, 1) else f"manifest-{shard[0]}-of-{shard[1]}.json"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write or replace the manifest of one shard."""
    write_atomically(folder / manifest_name(manifest.shard), json.dumps(manifest.to_json(), indent=2) + "\n")


_REBUILD = "rebuild the folder with `jigsaw build`"


def _read_one(path: Path) -> Manifest:
    try:
        return Manifest.from_json(read_object(path, _REBUILD))
    except ValueError as error:
        raise JigsawError(f"{path} is not a valid manifest: {error}; {_REBUILD}") from error


def shard_manifests(folder: Path) -> list[Manifest]:
    """The manifests in a folder: one, or one for each started shard. Raises JigsawError for a damaged one."""
    return [_read_one(path) for path in sorted(folder.glob("manifest*.json"))]


def read_manifest(path: str | Path) -> Manifest:
    """The manifest of a set, with the counts of all shards.

    `complete` is True only if all shards exist and are complete.

    Raises:
        JigsawError: the folder is not a puzzle set, or its shards have different settings.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise JigsawError(f"{folder} is not a folder; name a folder that `jigsaw build` wrote")
    manifests = shard_manifests(folder)
    if not manifests:
        raise JigsawError(f"{folder} has no manifest.json; name a folder that `jigsaw build` wrote")
    first = manifests[0]
    for other in manifests[1:]:
        if (difference := first_difference(first.settings, other.settings)) is not None:
            raise JigsawError(
                f"{folder} mixes shards of different builds: {difference}; build them again with the same settings"
            )
    everything = all(m.complete for m in manifests) and len({m.shard for m in manifests}) == first.shard[1]
    shard = first.shard if len(manifests) == 1 else (0, 1)
    return replace(first, shard=shard, complete=everything, counts=sum((m.counts for m in manifests), Counts()))


def first_difference(old: Settings, new: Settings) -> str | None:
    """The first difference between two settings, in words, or None.

    >>> common = dict(task="image", spec="image", per_source=1, limit=None, split=None, heldout=0.2, materialize=False,
    ...               parts=1, num_sources=9, listing="a", config={"grid": "2x2"})
    >>> first_difference(Settings(seed=0, **common), Settings(seed=1, **common))
    'seed was 0, now 1'
    """
    for name in old.config.keys() | new.config.keys() if old.task == new.task else ():
        if old.config.get(name) != new.config.get(name):
            return f"{name} was {old.config.get(name)!r}, now {new.config.get(name)!r}"
    for item in fields(Settings):
        before, now = getattr(old, item.name), getattr(new, item.name)
        if before != now and item.name not in ("config", "spec"):
            if item.name == "listing":
                return "the source files changed (names or sizes)"
            return f"{item.name.replace('_', ' ')} was {before!r}, now {now!r}"
    return None
