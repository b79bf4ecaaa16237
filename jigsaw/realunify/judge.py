"""A judge of pictures behind any OpenAI-compatible endpoint: yes-or-no questions about one picture.

In: a picture and a question. Out: True, False, or None if the judge said neither as often as it was asked. A server
that fails or does not answer in time is an error, because the evaluation cannot continue without a judge.
"""

from __future__ import annotations

import re
from typing import Any

from PIL import Image

from jigsaw.pictures import data_uri
from jigsaw.realunify.endpoint import Endpoint, RefusedError

ASKED = "Look at the picture and answer the question with one word, yes or no.\nQuestion: "
WORDS = {"yes": True, "no": False}


def verdict(text: str) -> bool | None:
    """The yes or no that a reply begins or ends with; None for anything else.

    >>> verdict("Yes."), verdict("I know nothing"), verdict("<think>no</think> yes"), verdict("The answer is no")
    (True, None, True, False)
    """
    words = re.findall(r"[a-z]+", text.rpartition("</think>")[2].lower())
    if not words:
        return None
    found = {WORDS[word] for word in (words[0], words[-1]) if word in WORDS}
    return found.pop() if len(found) == 1 else None


class Judge:
    """Asks an endpoint, and asks again with another seed when the reply is neither yes nor no.

    Args:
        url: address of the server, up to and with `/v1`.
        model: the model's name on the server.
        key: sent as bearer token; the environment's `OPENAI_API_KEY` if None.
        tries: attempts of a question, and of a request.
        timeout: seconds for one reply.

    Raises:
        JigsawError: the address is not valid, or OpenAI's client is not installed.
    """

    def __init__(self, url: str, model: str, *, key: str | None = None, tries: int = 3, timeout: float = 120.0) -> None:
        self._endpoint = Endpoint("--judge", url, model, key=key, tries=tries, timeout=timeout)
        self._tries = tries

    def ask(self, image: Image.Image, question: str) -> bool | None:
        """The judge's verdict on one question; None where it gives none or declines the picture.

        Raises:
            JigsawError: the server fails, cannot be reached, or does not answer in time.
        """
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": data_uri(image, lossless=True)}},
            {"type": "text", "text": ASKED + question},
        ]
        for seed in range(self._tries):
            try:
                found = verdict(self._endpoint.chat(content, seed=seed))
            except RefusedError:
                return None
            if found is not None:
                return found
        return None
