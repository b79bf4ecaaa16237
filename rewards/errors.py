"""The error class of the rewards, and the names that columns of other data sets have here."""

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
"""Common columns of other data sets, and the column of a puzzle that corresponds to each."""


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
