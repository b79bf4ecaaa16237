"""Rewards for the text of a completion: its format, repetitions and length.

The format is right if `parse_order` calls the text well formed. The repetition rule is from the paper's released code
(it is not in the paper); its value is negative, so its weight should be positive. The length reward follows the
authors' advice to keep responses at about 100 to 1000 tokens, since entropy collapsed or exploded outside that range.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jigsaw.rewards.answers.rows import parsed_answers
from jigsaw.rewards.completions import Completion, completion_text
from jigsaw.rewards.errors import RewardError
from jigsaw.rewards.plugin import reward


@reward
def format_reward(
    completions: Sequence[Completion],
    answer: Sequence[Any],
    answer_style: Sequence[str | None] | None = None,
    think_prefilled: Sequence[bool | None] | None = None,
    **columns: Any,
) -> list[float]:
    """1 if the tags are right, regardless of their content (style direct: if the text is an answer), else 0.

    >>> format_reward(["<think>a</think><answer>hm</answer>", "hm"], [[1, 2], [1, 2]])
    [1.0, 0.0]
    """
    rows = {**columns, "answer": answer, "answer_style": answer_style, "think_prefilled": think_prefilled}
    return [float(parsed.well_formed) for parsed in parsed_answers(completions, rows)]


@reward
def repetition(
    completions: Sequence[Completion],
    *,
    penalty: float = 0.5,
    min_words: int = 7,
    max_repeats: int = 3,
    **columns: Any,
) -> list[float]:
    """Minus `penalty` if a line of at least `min_words` words occurs more than `max_repeats` times in a row, else 0.

    Blank lines between repetitions are ignored.

    Args:
        completions: strings or message lists.
        penalty: amount that is subtracted, at least 0.
        min_words: fewest words of a line that counts.
        max_repeats: most allowed occurrences of a line in a row, at least 1.
        columns: other columns of the rows, not used.

    Returns:
        -penalty or 0.0 per row.

    Raises:
        RewardError: an option is out of range.

    >>> repetition(["so the sky must be at the top\\n" * 4, "tile 1\\n" * 4])
    [-0.5, 0.0]
    """
    if penalty < 0 or min_words < 1 or max_repeats < 1:
        raise RewardError("repetition needs penalty >= 0, min_words >= 1 and max_repeats >= 1")
    return [
        -penalty if _longest_repeat(completion_text(completion), min_words) > max_repeats else 0.0
        for completion in completions
    ]


def _longest_repeat(text: str, min_words: int) -> int:
    """The largest number of consecutive occurrences of a line of at least `min_words` words."""
    longest = run = 0
    previous = ""
    for line in text.splitlines():
        words = line.strip()
        if not words:
            continue
        run = run + 1 if words == previous else 1
        previous = words
        if run > longest and len(words.split(maxsplit=min_words - 1)) >= min_words:
            longest = run
    return longest


@reward
def length(
    completions: Sequence[Completion],
    completion_ids: Sequence[Sequence[int]] | None = None,
    *,
    minimum: int = 100,
    maximum: int = 1000,
    unit: str = "tokens",
    **columns: Any,
) -> list[float]:
    """1 if the length is from `minimum` to `maximum`, falling linearly to 0 at an empty text and at twice the maximum.

    Args:
        completions: strings or message lists.
        completion_ids: the token ids of each completion, from the trainer; required for `unit: tokens`.
        minimum: shortest length with the full value, at least 1.
        maximum: longest length with the full value, at least `minimum`.
        unit: `tokens`, or `words` if there are no tokens (outside training).
        columns: other columns of the rows, not used.

    Returns:
        One value in [0, 1] per row.

    Raises:
        RewardError: an option is out of range, or the unit is tokens and there is no column `completion_ids`.

    >>> length(["a b c"], minimum=4, maximum=8, unit="words"), length(["a " * 12], minimum=4, maximum=8, unit="words")
    ([0.75], [0.5])
    """
    if not 1 <= minimum <= maximum:
        raise RewardError(f"length needs 1 <= minimum <= maximum, not {minimum} and {maximum}")
    if unit == "words":
        counts = [len(completion_text(completion).split()) for completion in completions]
    elif unit != "tokens":
        raise RewardError(f"unit is {unit!r}; it must be tokens or words")
    elif completion_ids is None:
        raise RewardError(
            "length counts tokens, but there is no column completion_ids; outside training use unit: words"
        )
    else:
        counts = [len(ids) for ids in completion_ids]
    return [max(0.0, min(1.0, count / minimum, 2.0 - count / maximum)) for count in counts]
