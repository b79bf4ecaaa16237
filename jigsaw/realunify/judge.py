"""A judge on an OpenAI-compatible server, which answers yes-or-no questions about a picture.

In: a picture and a question. Out: True, False, or None if no reply of the judge is yes or no. A server that fails or is
too slow is an error, because the evaluation cannot continue without a judge.
"""

from __future__ import annotations

import re
from typing import Any

from PIL import Image

from jigsaw.pictures import data_uri
from jigsaw.realunify.endpoint import Endpoint, RefusedError

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


class Judge:
    """Asks an endpoint, and repeats the question with another seed if the reply is not yes or no.

    Args:
        url: address of the server, including `/v1`.
        model: the model's name on the server.
        key: API key; None for the environment variable `OPENAI_API_KEY`.
        tries: number of attempts per question and per request.
        timeout: seconds per reply.

    Raises:
        JigsawError: the address is not valid, or OpenAI's client is not installed.
    """

    def __init__(self, url: str, model: str, *, key: str | None = None, tries: int = 3, timeout: float = 120.0) -> None:
        self._endpoint = Endpoint("--judge", url, model, key=key, tries=tries, timeout=timeout)
        self._tries = tries

    def ask(self, image: Image.Image, question: str) -> bool | None:
        """The judge's verdict on one question; None if it gives none or declines the picture.

        Raises:
            JigsawError: the server fails, cannot be reached, or is too slow.
        """
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": data_uri(image, lossless=True)}},
            {"type": "text", "text": PROMPT + question},
        ]
        for seed in range(self._tries):
            try:
                answer = verdict(self._endpoint.chat(content, seed=seed))
            except RefusedError:
                return None
            if answer is not None:
                return answer
        return None
