"""The one error of the rewards, and the suggestion that its messages end with."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class RewardError(ValueError):
    """A reward, its name, its arguments or its input is wrong; the message is one line with the remedy."""


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
