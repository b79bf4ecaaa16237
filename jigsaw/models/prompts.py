"""Converts rows to prompts: the chat template's text with placeholders, and the media in the same order.

In: rows of a puzzle set. Out: text and media, or the tensors that a model takes. Every medium must have a placeholder
and vice versa; a mismatch is an error, so that no puzzle lacks a piece.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

from jigsaw.errors import JigsawError, first_line
from jigsaw.models.families import family_of_processor

Kind = Literal["image", "video"]


def media_of(row: Mapping[str, Any], kind: Kind) -> list[Any]:
    """The row's images or clips, in prompt order.

    Raises:
        JigsawError: the numbers of placeholders and media differ.
    """
    media = list(row.get(f"{kind}s") or ())
    placeholders = sum(part["type"] == kind for message in row["prompt"] for part in message["content"])
    if placeholders != len(media):
        article = "an" if kind == "image" else "a"
        missing, left = max(placeholders - len(media), 0), max(len(media) - placeholders, 0)
        raise JigsawError(
            f"puzzle {row.get('id')}: {missing} placeholders without {article} {kind}, {left} {kind}s without one"
        )
    return media


def expand_media(processor: Any, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with media in the form that the model takes; NEO, for example, takes a clip as time-stamped frames.

    Raises:
        JigsawError: the numbers of placeholders and media differ.
    """
    for kind in get_args(Kind):
        media_of(row, kind)
    return family_of_processor(processor).expand_media(row, processor)


def prompt_text(processor: Any, row: Mapping[str, Any]) -> str:
    """The prompt as the chat template writes it, with one placeholder per medium and the assistant's turn opened."""
    return template_text(processor, expand_media(processor, row)["prompt"], opens_answer=True)


def template_text(processor: Any, turns: Sequence[Mapping[str, Any]], *, opens_answer: bool = False) -> str:
    """The turns of a conversation as the chat template writes them; all templates run here.

    The text has the form that the processor needs; see `Family.write`.

    Args:
        processor: the processor of a supported checkpoint.
        turns: the turns, with placeholders for media.
        opens_answer: whether to open the assistant's turn at the end.

    Raises:
        JigsawError: the template fails, or takes longer than `TEMPLATE_LIMIT`.
    """
    family = family_of_processor(processor)
    with _template_limit():
        try:
            text = family.write(processor, turns, opens_answer=opens_answer)
        except (JigsawError, MemoryError):
            raise
        except Exception as error:  # the type of error depends on the template
            raise JigsawError(
                f"the chat template of the checkpoint cannot write this prompt ({type(error).__name__}: "
                f"{first_line(error)}); correct chat_template.jinja, or copy the base model's"
            ) from error
    return text


THINKING = "<think>"
"""The tag that the template of a model that always reasons writes before the completion."""


def completion_texts(
    processor: Any, rows: Sequence[Mapping[str, Any]], completions: Sequence[Any], *, count: int = 1
) -> list[str]:
    """Completions as text without special tokens, for rewards, figures and logs.

    If the chat template has opened the reasoning (`<think>`), the text begins with that tag, so that completions of all
    models have the same form.

    Args:
        processor: the processor of the model.
        rows: N puzzles.
        completions: token ids of N x `count` completions, in order of puzzles.
        count: completions per puzzle.
    """
    texts: list[str] = processor.batch_decode(completions, skip_special_tokens=True)
    opened = [prompt_text(processor, row).rstrip().endswith(THINKING) for row in rows]
    return [THINKING + text if opened[number // count] else text for number, text in enumerate(texts)]


TEMPLATE_LIMIT = 30.0
"""Time limit of a chat template in seconds: it comes with the checkpoint and may loop forever."""


@contextmanager
def _template_limit() -> Iterator[None]:
    """Interrupt a chat template after `TEMPLATE_LIMIT`; only in the main thread, the only one that receives signals.

    Raises:
        JigsawError: the template took longer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise JigsawError(f"the chat template of the checkpoint ran for more than {TEMPLATE_LIMIT:g} s; it may loop")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, TEMPLATE_LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def processor_inputs(processor: Any, rows: Sequence[Mapping[str, Any]]) -> Any:
    """A batch of rows as model inputs, padded on the left.

    Raises:
        JigsawError: the numbers of placeholders and media differ.
    """
    rows = [expand_media(processor, row) for row in rows]
    images, clips = ([media_of(row, kind) for row in rows] for kind in ("image", "video"))
    text = [prompt_text(processor, row) for row in rows]
    return family_of_processor(processor).encode(processor, text, images, clips)


def completion_tokens(processor: Any) -> Callable[[str], list[int]]:
    """A function from a completion's text to the token ids that a model would generate, including the end token."""
    tokenizer = processor.tokenizer
    return lambda text: [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
