"""The words that the tasks share: how an answer is asked for, and how a prompt is put together.

In: an answer style and the number of pieces. Out: text and chat messages. `jigsaw.rewards.parse_order` reads the
answers that these instructions ask for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jigsaw.tasks.contract import AnswerStyle, Message, PromptVariant, Puzzle


def example_order(num_pieces: int) -> str:
    """An order that shows the form of an answer: even numbers first, so that it is never the identity.

    >>> example_order(5)
    '2, 4, 1, 3, 5'
    """
    numbers = [*range(2, num_pieces + 1, 2), *range(1, num_pieces + 1, 2)]
    return ", ".join(map(str, numbers))


def answer_instruction(style: AnswerStyle, num_pieces: int) -> str:
    """The closing sentences of a prompt, which say in what form the answer is wanted.

    >>> answer_instruction("direct", 4)
    'Answer with the 4 numbers only, separated by commas.'
    """
    if style == "direct":
        return f"Answer with the {num_pieces} numbers only, separated by commas."
    reasoning = "First reason step by step inside <think> </think>."
    example = example_order(num_pieces)
    if style == "think":
        place, form = "<answer> </answer>", f"<answer>{example}</answer>"
    else:
        place, form = "\\boxed{}", f"\\boxed{{{example}}}"
    return (
        f"{reasoning} Then give all {num_pieces} numbers, each once, separated by commas, inside {place}, "
        f"in this form: {form}"
    )


def user_message(parts: Iterable[str | dict[str, str]]) -> list[Message]:
    """One user turn. A string becomes a text part, a dict such as `{"type": "image"}` stays a placeholder.

    >>> user_message(["Tile 1:", {"type": "image"}])
    [{'role': 'user', 'content': [{'type': 'text', 'text': 'Tile 1:'}, {'type': 'image'}]}]
    """
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return [{"role": "user", "content": content}]


def varied(prompt: Sequence[Message], variant: PromptVariant, puzzle: Puzzle) -> list[Message]:
    """A puzzle's prompt with another question around the same media; the form of the answer stays word for word.

    Args:
        prompt: the puzzle's own prompt, whose placeholders stay in their order.
        variant: one of the task's variants.
    """
    count = puzzle.num_pieces
    rows, columns = puzzle.grid or (1, count)
    media = [part for turn in prompt for part in turn["content"] if part["type"] != "text"]
    parts: list[Any] = [variant.opening.format(count=count, rows=rows, columns=columns)]
    each, left = divmod(len(media), count)
    if left or not each:
        parts += media
    else:
        for number in range(count):
            parts += [variant.label.format(number=number + 1), *media[number * each : (number + 1) * each]]
    return user_message([*parts, f"{variant.question} {answer_instruction(puzzle.answer_style, count)}"])
