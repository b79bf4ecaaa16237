"""Refuses values that YAML 1.1 changes: it reads `16:00` as the number 960, `no` as false and `0123` as 83.

In: the text of a recipe or of an override. Out: every plain scalar that is not a string, with its original text. Where
the schema wants a string, the recipe is refused with the cause, instead of running with another value. The module also
limits the size of YAML texts: aliases that expand to a billion values are refused before anything reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from io import StringIO
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from jigsaw.errors import JigsawError

MOST_VALUES = 100_000
"""Maximum number of values in a YAML text with its aliases expanded; a recipe has some hundred."""

MOST_CHARACTERS = 4_000_000
_Base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # OmegaConf's loader, so that places agree
_TAGS = ("int", "float", "bool", "null", "timestamp")


@dataclass(frozen=True)
class Written:
    """A plain scalar that is not a string.

    Attributes:
        text: its text in the file.
        value: its value in YAML 1.1.
        override: whether it is the complete value of an override, whose quotes the shell removes.
    """

    text: str
    value: Any
    override: bool = False

    @property
    def never_meant(self) -> bool:
        """Whether it is a number in a notation that is only used by mistake: base 60, or octal with a leading 0."""
        digits = self.text.lstrip("+-").replace("_", "")
        octal = len(digits) > 1 and digits.isdecimal() and digits[0] == "0"
        return isinstance(self.value, int | float) and not isinstance(self.value, bool) and (":" in digits or octal)

    @property
    def as_written(self) -> bool:
        """Whether the value is the one that the text suggests."""
        if isinstance(self.value, bool):
            return self.text.lower() in ("true", "false")
        return isinstance(self.value, int) and str(self.value) == self.text

    def cause(self, place: str, annotations: Sequence[Any]) -> str:
        """The message: how YAML reads the text, and what to write at a place with these type annotations."""
        value = self.value
        if isinstance(value, bool | NoneType):
            read = {True: "true", False: "false", None: "no value"}[value]
        else:
            read = f"the date {value}" if isinstance(value, date) else f"the number {value}"
        choices = [str(choice) for inner in annotations if get_origin(inner) is Literal for choice in get_args(inner)]
        if choices and self.text not in choices:
            remedy = f"write one of {', '.join(choices)}"
        elif annotations and str not in _types_of(annotations):
            remedy = "write the number without leading zeros and without colons"
        else:
            key = place.rpartition(".")[2]
            before = "" if key.isdecimal() else f"{key}: "
            quoted = f"""{place}='"{self.text}"'""" if self.override else f'{before}"{self.text}"'
            remedy = f"for a text put it in quotes: {quoted}"
        return f"YAML reads {self.text or 'an empty value'} as {read}; {remedy}"


def require_moderate(text: str, loader: Any = _Base) -> None:
    """Refuse a YAML text whose aliases expand to more than `MOST_VALUES`, or that is nested too deeply to read.

    Args:
        text: the YAML.
        loader: the class that reads it afterwards; libyaml refuses text with half surrogates, Python's loader does not.

    Raises:
        JigsawError: the text is too large or nested too deeply.
        yaml.YAMLError: the text is not valid YAML.
    """
    if len(text) > MOST_CHARACTERS:
        raise JigsawError(f"the YAML has {len(text):,} characters; the maximum is {MOST_CHARACTERS:,}")
    try:
        root = yaml.compose(StringIO(text), loader)
        sizes: dict[int, int] = {}
        if root is not None and _size(root, sizes) > MOST_VALUES:
            raise JigsawError(f"the aliases of the YAML expand to more than {MOST_VALUES:,} values; write them out")
    except RecursionError:
        raise JigsawError("the YAML is nested too deeply, or an alias contains itself") from None


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """The number of values below a node with aliases expanded; the size of each node is computed once."""
    if id(node) not in sizes:
        below = [*node.value] if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.MappingNode):
            below = [item for pair in node.value for item in pair]
        sizes[id(node)] = 1 + sum(_size(item, sizes) for item in below)
    return sizes[id(node)]


class _Loader(_Base):  # type: ignore[misc,valid-type]
    """YAML 1.1 with OmegaConf's additional numbers: `1e3` is a number, with or without a decimal point."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+\Z"), list("-+0123456789")
)


def written_scalars(text: str, prefix: str = "") -> dict[str, Written]:
    """Place -> scalar, for every plain scalar that is not a string; a place is written `data.train.0.weight`.

    Args:
        text: valid YAML within the limits.
        prefix: the place of the text in the recipe, for an override.
    """
    opened = _Loader(text)
    try:
        root = opened.get_single_node()
        found = {} if root is None else dict(_scalars(root, opened, prefix))
        return {place: replace(scalar, override=place == prefix) for place, scalar in found.items()}
    finally:
        opened.dispose()


def _scalars(node: yaml.Node, loader: yaml.SafeLoader, place: str) -> Iterator[tuple[str, Written]]:
    if isinstance(node, yaml.ScalarNode):
        if not node.style and node.tag.rpartition(":")[2] in _TAGS:
            yield place, Written(node.value, loader.construct_object(node, deep=True))
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield from _scalars(value, loader, f"{place}.{key.value}" if place else key.value)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _scalars(value, loader, f"{place}.{number}")


def refuse_changed(content: Any, written: Mapping[str, Written], schema: type[BaseModel]) -> None:
    """Refuse a value that YAML changed where the schema wants a string.

    Args:
        content: the resolved recipe.
        written: its scalars; those that were replaced later are skipped.
        schema: the schema of the recipe.

    Raises:
        JigsawError: YAML changed a value; the message has its place, the cause and how to quote it.
    """
    for place, scalar in written.items():
        if not _is_still_there(content, place.split("."), scalar.value):
            continue
        annotations = list(_annotations_at(schema, place.split(".")))
        kinds = _types_of(annotations)
        admitted = type(scalar.value) in kinds or (isinstance(scalar.value, int) and kinds == {float})
        # For a plain 3 where a string is needed, the schema's own error is clearer.
        changed = str in kinds and not (scalar.as_written or (admitted and isinstance(scalar.value, float | NoneType)))
        if scalar.never_meant or changed:
            raise JigsawError(f"{place}: {scalar.cause(place, annotations)}")


def _is_still_there(content: Any, path: list[str], value: Any) -> bool:
    for part in path:
        try:
            content = content[int(part)] if isinstance(content, list) else content[part]
        except (KeyError, IndexError, ValueError, TypeError):
            return False
    return type(content) is type(value) and bool(content == value)


def _annotations_at(annotation: Any, path: list[str]) -> Iterator[Any]:
    """The type annotations that a schema admits at a place; none if the schema does not define the place."""
    for inner in _alternatives(annotation):
        if not path:
            yield inner
        elif isinstance(inner, type) and issubclass(inner, BaseModel):
            if (field := inner.model_fields.get(path[0])) is not None:
                yield from _annotations_at(field.annotation, path[1:])
        elif get_origin(inner) in (dict, Mapping):
            yield from _annotations_at(get_args(inner)[1], path[1:])
        elif get_origin(inner) in (tuple, list):
            yield from _annotations_at(get_args(inner)[0], path[1:])


def _alternatives(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for inner in get_args(annotation):
            yield from _alternatives(inner)
    else:
        yield annotation


def _types_of(annotations: Sequence[Any]) -> set[type]:
    """The plain types among annotations, and the types of the choices of a `Literal`."""
    found: set[type] = set()
    for inner in annotations:
        if get_origin(inner) is Literal:
            found |= {type(choice) for choice in get_args(inner)}
        elif inner in (None, str, int, float, bool, NoneType):
            found.add(NoneType if inner is None else inner)
    return found
