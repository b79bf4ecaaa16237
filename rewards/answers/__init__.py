"""Answer kinds: how an answer is parsed from a completion, written and scored.

A row names its kind and the kind's arguments; `kind_of` returns the kind::

    order      a permutation of 1..K                      {}
    choice     one of several options                     {"options": ["A", "B", "C", "D"]}
    number     a number, exact or within a tolerance      {"tolerance": 0.05}
    interval   start and end, scored by their overlap     {"duration": 12.0}
    box        a rectangle, scored by its overlap         {"width": 640, "height": 480}
    text       words, exact or by ANLS                    {"metric": "anls"}
    math       an expression, compared by math-verify     {}

A new kind is a file here and a line in `kinds.py`.

>>> from jigsaw.rewards.answers import kind_of
>>> kind = kind_of("choice", {"options": ["A", "B"]})
>>> kind.parse("<think>the sky</think><answer>B</answer>")
ParsedAnswer(value='B', well_formed=True, reason='ok')
"""

from jigsaw.rewards.answers.base import AnswerKind, ParsedAnswer
from jigsaw.rewards.answers.kinds import (
    ANSWER_KINDS,
    CHOICE,
    ORDER,
    args_of,
    check_answer_of,
    kind_of,
    kind_of_row,
    pieces_of_answer,
    written,
)
from jigsaw.rewards.answers.reward import answer

__all__ = [
    "ANSWER_KINDS",
    "CHOICE",
    "ORDER",
    "AnswerKind",
    "ParsedAnswer",
    "answer",
    "args_of",
    "check_answer_of",
    "kind_of",
    "kind_of_row",
    "pieces_of_answer",
    "written",
]
