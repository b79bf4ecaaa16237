"""A judge on an OpenAI-compatible server, which answers yes-or-no questions about a picture.

In: a picture and a question. Out: True, False, or None if no reply of the judge is yes or no. A server that fails or is
too slow is an error, because the evaluation cannot continue without a judge.
"""

from __future__ import annotations

import re

from PIL import Image

from jigsaw.realunify.endpoint import TRIES, Endpoint, RefusedError, image_part

PROMPT = "Look at the picture and answer the question with one word, yes or no.\nQuestion: "
WORDS = {"yes": True, "no": False}


def verdict(text: str) -> bool | None:
    """The yes or no at the start or end of a reply; None for another reply.

    >>> verdict("Yes."), verdict("I know nothing"), verdict("<think>no</think> yes"), verdict("The answer is no")
    (True, None, True, False)
    """
    words = re.findall(r"[a-z]+", text.rpartition("</think>")[2].lower())
    if not words:
        return None
    verdicts = {WORDS[word] for word in (words[0], words[-1]) if word in WORDS}
    return verdicts.pop() if len(verdicts) == 1 else None


def ask(judge: Endpoint, image: Image.Image, question: str) -> bool | None:
    """The judge's verdict on one question; None if it gives none or declines the picture.

    The question is repeated with another seed if the reply is not yes or no.

    Raises:
        JigsawError: the server fails, cannot be reached, or is too slow.
    """
    content = [image_part(image), {"type": "text", "text": PROMPT + question}]
    for seed in range(TRIES):
        try:
            answer = verdict(judge.chat(content, seed=seed))
        except RefusedError:
            return None
        if answer is not None:
            return answer
    return None
