"""`manifest.json`: what a data set was built from and with, and how far the build came.

In: the settings of a build, the counts of its parts. Out: a JSON file written whole or not at all; the comparison that
refuses to continue a folder with other settings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
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
    """How many sources were read, how many puzzles they gave, how many draws were rejected and why."""

    sources: int = 0
    puzzles: int = 0
    rejects: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: Counts) -> Counts:
        reasons = sorted({*self.rejects, *other.rejects})
        rejects = {reason: self.rejects.get(reason, 0) + other.rejects.get(reason, 0) for reason in reasons}
        return Counts(sources=self.sources + other.sources, puzzles=self.puzzles + other.puzzles, rejects=rejects)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The record of a data set.

    Attributes:
        source_root: absolute path of the sources on the machine that built it.
        source_relative: the same, relative to the data set: it still holds when both are moved together.
        source_name: below the root, the list, tar, table or saved data set that was read; empty for all of the folder.
        shard: number and count, `(0, 1)` when built in one go.
        complete: whether every part of the shard is written.
        skipped: what was passed over among the sources: a suffix, or a few words -> how often.
        versions: of the packages that made it.
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
        """The manifest as it is in the file."""
        record = {"format": FORMAT, **asdict(self.settings), **asdict(self)}
        del record["settings"]
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Manifest:
        """The inverse of `to_json`.

        Raises:
            ValueError: the record is none; the message names the key.
        """
        if record.get("format") != FORMAT:
            raise ValueError(f"format is {named(record.get('format'))}, and this version reads format {FORMAT}")
        values = {**_OPTIONAL, **record}
        for name, (wanted, holds) in _FORM.items():
            if name not in values:
                raise ValueError(f"{name} is missing")
            if not holds(values[name]):
                raise ValueError(f"{name} is {named(values[name])}, not {wanted}")
        settings = Settings(**{item.name: values[item.name] for item in fields(Settings)})
        own = {item.name: values[item.name] for item in fields(cls) if item.name != "settings"}
        own |= {"shard": tuple(values["shard"]), "counts": counts_of(values["counts"])}
        return cls(settings=settings, **own)


def counts_of(record: Any) -> Counts:
    """The counts in a manifest or a part.

    Raises:
        ValueError: the record is none; the message names the key.
    """
    if not isinstance(record, dict) or set(record) != {"sources", "puzzles", "rejects"}:
        raise ValueError("counts is not an object of sources, puzzles and rejects")
    for name, value in record.items():
        wanted, holds = ("an object of counts", _is_counts) if name == "rejects" else ("a count", _is_count)
        if not holds(value):
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

# By hand and not by pydantic, which refuses the texts that stand for names of files in another encoding than UTF-8.
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
"""Key of a manifest -> what its value must be, in words and as a test."""

_OPTIONAL: Mapping[str, Any] = {"source_name": "", "skipped": {}, "imported": None}


def package_versions() -> dict[str, str]:
    """Versions of what decides about rows and pixels."""
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
        raise JigsawError(f"{path} is no manifest of a puzzle set: {error}; {_REBUILD}") from error


def shard_manifests(folder: Path) -> list[Manifest]:
    """The manifests in a folder: one, or one per shard that has begun. Raises JigsawError on a damaged one."""
    return [_read_one(path) for path in sorted(folder.glob("manifest*.json"))]


def read_manifest(path: str | Path) -> Manifest:
    """The manifest of a data set, the counts of all its shards together.

    `complete` is True only if every shard is there and complete.

    Raises:
        JigsawError: the folder is no data set, or its shards were built with different settings.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise JigsawError(f"{folder} is no folder; give one that `jigsaw build` wrote")
    manifests = shard_manifests(folder)
    if not manifests:
        raise JigsawError(f"{folder} holds no manifest.json; give a folder that `jigsaw build` wrote")
    first = manifests[0]
    for other in manifests[1:]:
        if (difference := first_difference(first.settings, other.settings)) is not None:
            raise JigsawError(f"{folder} mixes shards of different builds: {difference}; rebuild them with one setting")
    everything = all(m.complete for m in manifests) and len({m.shard for m in manifests}) == first.shard[1]
    return Manifest(
        settings=first.settings,
        source_root=first.source_root,
        source_relative=first.source_relative,
        source_name=first.source_name,
        shard=first.shard if len(manifests) == 1 else (0, 1),
        complete=everything,
        counts=sum((m.counts for m in manifests), Counts()),
        skipped=first.skipped,
        versions=first.versions,
    )


def first_difference(old: Settings, new: Settings) -> str | None:
    """What first tells two settings apart, in words, or None.

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
