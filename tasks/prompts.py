"""Text and messages that the tasks share: answer instructions, options and prompts.

In: an answer style and the number of pieces. Out: text and chat messages. `jigsaw.rewards.parse_order` reads the
answers that the instructions ask for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jigsaw.tasks.contract import CHOICE, ORDER, AnswerStyle, Message, PromptVariant, Puzzle


def example_order(num_pieces: int) -> str:
    """An example of an order: even numbers first, so that it is never the identity.

    >>> example_order(5)
    '2, 4, 1, 3, 5'
    """
    numbers = [*range(2, num_pieces + 1, 2), *range(1, num_pieces + 1, 2)]
    return ", ".join(map(str, numbers))


def answer_instruction(style: AnswerStyle, num_pieces: int) -> str:
    """The last sentences of a prompt, with the form of an order.

    >>> answer_instruction("direct", 4)
    'Answer with the 4 numbers only, separated by commas.'
    """
    if style == "direct":
        return f"Answer with the {num_pieces} numbers only, separated by commas."
    asked = f"give all {num_pieces} numbers, each once, separated by commas,"
    return _with_form(style, asked, example_order(num_pieces))


def choice_instruction(style: AnswerStyle, options: Sequence[str]) -> str:
    """The last sentences of a prompt that asks for one of several options.

    >>> choice_instruction("direct", ["A", "B"])
    'Answer with A or B only.'
    """
    listed = f"{', '.join(options[:-1])} or {options[-1]}"
    if style == "direct":
        return f"Answer with {listed} only."
    return _with_form(style, f"give one of {listed}", options[0])


def value_instruction(style: AnswerStyle, what: str, example: str) -> str:
    """The last sentences of a prompt that asks for another kind of answer.

    Args:
        style: the answer style.
        what: the requested values, such as "start and end in seconds, separated by a comma".
        example: an answer in the right form.

    >>> value_instruction("direct", "start and end in seconds", "2.5, 6")
    'Answer with start and end in seconds only, in this form: 2.5, 6'
    """
    if style == "direct":
        return f"Answer with {what} only, in this form: {example}"
    return _with_form(style, f"give {what}", example)


def _with_form(style: AnswerStyle, asked: str, example: str) -> str:
    place, form = ("<answer> </answer>", f"<answer>{example}</answer>")
    if style == "boxed":
        place, form = "\\boxed{}", f"\\boxed{{{example}}}"
    return f"First reason step by step inside <think> </think>. Then {asked} inside {place}, in this form: {form}"


_FORMS = {
    "number": ("the number", "7"),
    "interval": ("the start and the end in seconds, separated by a comma,", "2.5, 6"),
    "box": ("left, top, right and bottom in pixels, separated by commas,", "[12, 40, 200, 310]"),
    "text": ("the words", "north"),
    "math": ("the expression", "3/4"),
}
"""Kind of answer -> the requested values, and an example."""


def instruction_of(puzzle: Puzzle) -> str:
    """The last sentences of a puzzle's prompt, for any kind of answer."""
    if puzzle.answer_kind == CHOICE:
        return choice_instruction(puzzle.answer_style, puzzle.answer_args["options"])
    if puzzle.answer_kind == ORDER:
        return answer_instruction(puzzle.answer_style, puzzle.num_pieces)
    return value_instruction(puzzle.answer_style, *_FORMS[puzzle.answer_kind])


def user_message(parts: Iterable[str | dict[str, str]]) -> list[Message]:
    """One user turn. A string becomes a text part; a dict such as `{"type": "image"}` is a placeholder.

    >>> user_message(["Tile 1:", {"type": "image"}])
    [{'role': 'user', 'content': [{'type': 'text', 'text': 'Tile 1:'}, {'type': 'image'}]}]
    """
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return [{"role": "user", "content": content}]


def labelled_pieces(puzzle: Puzzle, label: str, medium: str = "image") -> list[str | dict[str, str]]:
    """A placeholder for every piece, each after its label and number: the middle of a prompt for `user_message`.

    Args:
        puzzle: its number of pieces is used.
        label: text before each number, such as "Tile", or empty.
        medium: `image` or `video`.
    """
    numbers = range(1, puzzle.num_pieces + 1)
    return [part for number in numbers for part in (f"{label} {number}:".lstrip(), {"type": medium})]


def clips_message(puzzle: Puzzle, question: str) -> list[Message]:
    """Every clip after its number, then a question about them and the form of the answer."""
    return user_message([*labelled_pieces(puzzle, "Clip", "video"), f"{question} {instruction_of(puzzle)}"])


def lettered(texts: Sequence[str]) -> dict[str, Any]:
    """The arguments of a choice between options in words, lettered from A.

    >>> lettered(["left", "right"])
    {'options': ['A', 'B'], 'texts': ['left', 'right']}
    """
    return {"options": [chr(ord("A") + number) for number in range(len(texts))], "texts": list(texts)}


def numbered(count: int) -> dict[str, Any]:
    """The arguments of a choice between pieces that are shown, numbered from 1.

    >>> numbered(3)
    {'options': ['1', '2', '3']}
    """
    return {"options": [str(number) for number in range(1, count + 1)]}


def options_in_words(puzzle: Puzzle) -> str:
    """The options of a choice as a prompt lists them; empty where the options only number what is shown."""
    labels, texts = (puzzle.answer_args.get(key, ()) for key in ("options", "texts"))
    return ", ".join(f"{label}: {text}" for label, text in zip(labels, texts, strict=False))


def varied(prompt: Sequence[Message], variant: PromptVariant, puzzle: Puzzle) -> list[Message]:
    """A puzzle's prompt in the wording of a variant; its media and its answer instruction do not change."""
    count = puzzle.num_pieces
    rows, columns = puzzle.grid or (1, count)
    media = [part for turn in prompt for part in turn["content"] if part["type"] != "text"]
    parts: list[Any] = [variant.opening.format(count=count, rows=rows, columns=columns)]
    each, left = divmod(len(media), count)
    if left or not each:
        parts += media
    else:
        for number in range(count):
            label = [variant.label.format(number=number + 1)] if variant.label else []
            parts += [*label, *media[number * each : (number + 1) * each]]
    return user_message([*parts, f"{variant.question} {instruction_of(puzzle)}"])
