"""The error class of the rewards, and the names that columns of other data sets have here."""

from __future__ import annotations

from collections.abc import Iterable

from jigsaw.errors import did_you_mean


class RewardError(ValueError):
    """A reward, its name, its arguments or its input is wrong; the message is one line with the remedy."""


ALSO_CALLED = {
    **dict.fromkeys(("solution", "solutions", "ground_truth", "label", "labels", "target", "gold", "order"), "answer"),
    **dict.fromkeys(("prompt", "messages", "question"), "prompts"),
    **dict.fromkeys(("image", "images", "video", "videos"), "source"),
}
"""Common columns of other data sets, and the column of a puzzle that corresponds to each."""


def nearest_column(name: str, columns: Iterable[str]) -> str:
    """The end of a message about a column that rows do not have.

    >>> nearest_column("solution", ["answer", "id"]), nearest_column("anser", ["answer", "id"])
    ('did you mean answer?', 'did you mean answer?')
    """
    return did_you_mean(ALSO_CALLED.get(name, name), columns)
