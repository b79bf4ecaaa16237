"""Layouts of question sets: where a row has its question, options, answer and media.

In: a stored row. Out: its `Question`s. A layout is a function and a line in `LAYOUTS`::

    plain    {"question": TEXT, "options": [..], "answer": .., "image" or "images": .., "video": .., "kind": .., "args"}
    easyr1   {"problem": TEXT, "answer": .., "images": [..]}
    verl     {"prompt": [{"role", "content"}], "reward_model": {"ground_truth": ..}, "images": [..]}   (geo3k of verl)
    llava    {"conversations": [{"from": "human", "value": TEXT}, {"from": "gpt", "value": ..}, ..], "image": ..}

In a text `<image>` and `<video>` are placeholders of media; without placeholders the media come first. A row may have
no media.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jigsaw.rewards import RewardError
from jigsaw.rewards.answers import check_answer_of
from jigsaw.rewards.answers.number import number_in
from jigsaw.text import named

_PLACEHOLDERS = {"<image>": "image", "<video>": "video"}
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
_LABEL = re.compile(r"\(?([A-Za-z0-9])\)?[.:]?")
_MATH = re.compile(r"[\\^=$]|\d\s*[+*/-]\s*\d")

Row = Mapping[str, Any]


class QuestionError(ValueError):
    """A row is not a valid question; the message has the problem and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question.

    Attributes:
        turns: role and text of the turns up to the question, with the placeholders `<image>` and `<video>`.
        answer: the answer as stored.
        options: texts to choose from; empty for an open question.
        labels: of the options; empty for A, B, C ..
        kind: of the answer; None to infer it from the answer.
        args: arguments of the kind.
        images, videos: paths, or mappings with `bytes` or `path`.
    """

    turns: Sequence[tuple[str, str]]
    answer: Any
    options: Sequence[str] = ()
    labels: Sequence[str] = ()
    kind: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    images: Sequence[Any] = ()
    videos: Sequence[Any] = ()

    def content(self) -> list[dict[str, Any]]:
        """The turns as chat messages, with a placeholder for each medium.

        Raises:
            QuestionError: there are more or fewer placeholders than media.
        """
        turns: list[dict[str, Any]] = [{"role": role, "content": [*_parts(text)]} for role, text in self.turns]
        for kind, media in (("image", self.images), ("video", self.videos)):
            shown = sum(part["type"] == kind for turn in turns for part in turn["content"])
            if shown == 0 and media:  # without placeholders, the media come before the first question
                first = next(turn for turn in turns if turn["role"] == "user")
                first["content"][:0] = [{"type": kind}] * len(media)
            elif shown != len(media):
                raise QuestionError(
                    f"its prompt has placeholders for {shown} {kind}s, but the row has {len(media)}; add what is "
                    "missing, or leave the row out"
                )
        return turns

    def solved(self, size: tuple[int, int] | None) -> tuple[str, dict[str, Any], Any]:
        """Kind of the answer, arguments of the kind, and the answer in the form of its kind.

        Args:
            size: width and height of the first image, which limit a box.

        Raises:
            QuestionError: the answer is not valid for its kind, or is not one of the options.
        """
        kind, args, answer = self.kind or self._kind(), dict(self.args), self.answer
        if self.options:
            if kind != "choice":
                raise QuestionError(f"it has options, but its answer is of kind {kind}; leave out one of them")
            twice = next((text for text in self.options if self.options.count(text) > 1), None)
            if twice is not None:
                raise QuestionError(f"two of its options are {twice!r}; all options must differ")
            labels = list(self.labels) or [chr(ord("A") + number) for number in range(len(self.options))]
            args = {"options": labels, "texts": list(self.options), **args}
            answer = _chosen(answer, labels, self.options)
        if kind == "box" and size is not None:
            args = {"width": size[0], "height": size[1], **args}
        if kind in ("text", "math", "number", "choice") and isinstance(answer, list | tuple | Mapping):
            raise QuestionError(
                f"its answer {named(answer)} is of no known kind; store a text, or set kind to interval or box"
            )
        if kind == "number" and isinstance(answer, str):
            found = number_in(answer.strip())
            if found is None:
                raise QuestionError(f"its answer {answer!r} is not a number; set another kind")
            answer = int(found) if found.denominator == 1 else float(found)
        if kind in ("text", "math"):
            answer = str(answer).strip()
        try:
            check_answer_of({"answer": answer, "answer_kind": kind, "answer_args": args})
        except RewardError as error:
            raise QuestionError(str(error)) from error
        return kind, args, answer

    def _kind(self) -> str:
        """The inferred kind of the answer: choice if there are options, else number, math or text."""
        if self.options or self.args.get("options"):
            return "choice"
        if isinstance(self.answer, int | float) and not isinstance(self.answer, bool):
            return "number"
        text = str(self.answer).strip()
        if number_in(text) is not None:
            return "number"
        return "math" if _MATH.search(text) else "text"


def _chosen(answer: Any, labels: Sequence[str], options: Sequence[str]) -> str:
    """The label of the right option; a row has the label or the text."""
    text = str(answer).strip()
    if text in labels:
        if text in options and labels[options.index(text)] != text:
            raise QuestionError(
                f"its answer {text!r} is the label of one option and the text of another; store the text"
            )
        return text
    if options.count(text) == 1:
        return labels[options.index(text)]
    match = _LABEL.fullmatch(text)
    if match is not None and match[1].upper() in labels:
        return match[1].upper()
    raise QuestionError(
        f"its answer {answer!r} is not one of the options {', '.join(options)}; store the label or text of an option"
    )


def _parts(text: str) -> Iterator[dict[str, str]]:
    for piece in re.split("(<image>|<video>)", text):
        if piece in _PLACEHOLDERS:
            yield {"type": _PLACEHOLDERS[piece]}
        elif piece.strip():
            yield {"type": "text", "text": piece.strip("\n")}


def _text(row: Row, key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise QuestionError(f"its {key} is {named(value)}, not a text; is this the right layout?")
    return value


def _answer(row: Row, key: str = "answer") -> Any:
    value = row.get(key)
    if value is None or value == "":
        raise QuestionError(f"it has no {key}; add it, or leave the row out")
    return value


def _list(row: Row, *keys: str) -> list[Any]:
    """The values of the first key that has a value."""
    for key in keys:
        value = row.get(key)
        if value is not None and value != "" and value != []:
            return list(value) if isinstance(value, list | tuple) else [value]
    return []


def _media(row: Row) -> dict[str, Any]:
    return {"images": _list(row, "images", "image"), "videos": _list(row, "videos", "video")}


def _plain(row: Row) -> Iterator[Question]:
    options: Any = row.get("options") or ()
    labels: list[str] = []
    if isinstance(options, Mapping):
        labelled = {str(label): text for label, text in options.items() if text is not None}
        options, labels = list(labelled.values()), list(labelled)
    if not isinstance(options, list | tuple):
        raise QuestionError(f"its options are {named(options)}, not a list of texts")
    for number, option in enumerate(options):
        if not isinstance(option, str) or not option.strip():
            raise QuestionError(f"its option {number + 1} is {named(option)}, not a text")
    args = row.get("args") or {}
    yield Question(
        turns=[("user", _text(row, "question"))],
        answer=_answer(row),
        options=list(options),
        labels=list(labels),
        kind=row.get("kind"),
        args={key: value for key, value in args.items() if value is not None},
        **_media(row),
    )


def _easyr1(row: Row) -> Iterator[Question]:
    yield Question(turns=[("user", _text(row, "problem"))], answer=_answer(row), **_media(row))


def _verl(row: Row) -> Iterator[Question]:
    turns = row.get("prompt")
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, Mapping) for turn in turns):
        raise QuestionError(f"its prompt is {named(turns)}, not a list of turns; is this the right layout?")
    model = row.get("reward_model")
    if not isinstance(model, Mapping):
        raise QuestionError("it has no reward_model with a ground_truth; is this the right layout?")
    messages = [(_role(turn.get("role")), _text(turn, "content")) for turn in turns]
    yield Question(turns=messages, answer=_answer(model, "ground_truth"), **_media(row))


def _llava(row: Row) -> Iterator[Question]:
    """One question per answer, with the turns before it."""
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, Mapping) for turn in turns):
        raise QuestionError(f"its conversations are {named(turns)}, not a list of turns; is this the right layout?")
    messages = [(_role(turn.get("from")), _text(turn, "value")) for turn in turns]
    for number, (role, text) in enumerate(messages):
        if role == "assistant":
            if not any(speaker == "user" for speaker, _ in messages[:number]):
                raise QuestionError("its first answer has no question before it; leave the row out")
            yield Question(turns=messages[:number], answer=text.strip(), **_media(row))


def _role(name: Any) -> str:
    if name not in _ROLES:
        raise QuestionError(f"a turn has the role {name!r}, which is not one of {', '.join(_ROLES)}")
    return _ROLES[name]


LAYOUTS: Mapping[str, Callable[[Row], Iterator[Question]]] = {
    "plain": _plain,
    "easyr1": _easyr1,
    "verl": _verl,
    "llava": _llava,
}
"""Name -> function that reads a row."""
