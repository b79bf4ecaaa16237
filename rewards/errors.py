"""The one error of the rewards, and the suggestion that its messages end with."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class RewardError(ValueError):
    """A reward, its name, its arguments or its input is wrong; the message is one line with the remedy."""


ALSO_CALLED = {
    **dict.fromkeys(("solution", "solutions", "ground_truth", "label", "labels", "target", "gold", "order"), "answer"),
    **dict.fromkeys(("prompt", "messages", "question"), "prompts"),
    **dict.fromkeys(("image", "images", "video", "videos"), "source"),
}
"""Columns of other data sets, and what a puzzle has in their place."""


def column_hint(name: str, known: Iterable[str]) -> str:
    """The end of a message about a column that rows do not have.

    >>> column_hint("solution", ["answer", "id"])
    'did you mean `answer`?'
    >>> column_hint("anser", ["answer", "id"])
    'did you mean `answer`?'
    """
    columns = list(known)
    near = [ALSO_CALLED[name]] if ALSO_CALLED.get(name) in columns else get_close_matches(name, columns, n=1)
    return f"did you mean `{near[0]}`?" if near else f"a puzzle has {', '.join(sorted(columns))}."


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a message about a word that is not known: the nearest known one, else that text or all known ones.

    >>> did_you_mean("discuont", ["discount", "format_weight"])
    'did you mean discount?'
    >>> did_you_mean("zzz", ["b", "a"])
    'known: a, b'
    """
    names = sorted(known)
    near = get_close_matches(word, names, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return otherwise or (f"known: {', '.join(names)}" if names else "there are none")
