"""A judge of pictures behind any OpenAI-compatible endpoint: yes-or-no questions about one picture.

In: a picture and a question. Out: True, False, or None if it said neither as often as it was asked. A server that
refuses or does not answer in time is an error: without a judge the evaluation cannot go on.
"""

from __future__ import annotations

import os
import re

from PIL import Image

from jigsaw.errors import JigsawError
from jigsaw.extras import install_command
from jigsaw.pictures import data_uri

ASKED = "Look at the picture and answer the question with one word, yes or no.\nQuestion: "
WORDS = {"yes": True, "no": False}


def verdict(text: str) -> bool | None:
    """The yes or no that a reply begins or ends with, quotes and the like aside; None for anything else.

    >>> verdict("Yes."), verdict("I know nothing"), verdict("<think>no</think> yes"), verdict("The answer is no")
    (True, None, True, False)
    """
    words = re.findall(r"[a-z]+", text.rpartition("</think>")[2].lower())
    if not words:
        return None
    found = {WORDS[word] for word in (words[0], words[-1]) if word in WORDS}
    return found.pop() if len(found) == 1 else None


class Judge:
    """Asks an endpoint through OpenAI's client, which tries again where the server is busy or slow.

    Args:
        url: up to and with `/v1`.
        model: name that the endpoint knows.
        key: sent as bearer; the environment's `OPENAI_API_KEY` if None.
        tries: of a question, each time the reply is no verdict, and of a request.
        timeout: seconds for one reply.

    Raises:
        JigsawError: the address is none, or the client is not installed.
    """

    def __init__(self, url: str, model: str, *, key: str | None = None, tries: int = 3, timeout: float = 120.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise JigsawError(f"--judge: {url!r} is no address such as http://127.0.0.1:8000/v1")
        try:
            from openai import OpenAI
        except ImportError as error:
            raise JigsawError(f"--judge: OpenAI's client is not installed; {install_command('judge')}") from error
        key = os.environ.get("OPENAI_API_KEY", "none") if key is None else key
        self._client = OpenAI(base_url=url, api_key=key, timeout=timeout, max_retries=tries - 1)
        self._url, self._model, self._tries, self._timeout = url, model, tries, timeout

    def ask(self, image: Image.Image, question: str) -> bool | None:
        """The judge's verdict on one question.

        Raises:
            JigsawError: the server refuses, cannot be reached, or does not answer in time.
        """
        picture: dict[str, object] = {"type": "image_url", "image_url": {"url": data_uri(image, lossless=True)}}
        content: list[dict[str, object]] = [picture, {"type": "text", "text": ASKED + question}]
        for number in range(self._tries):
            if (found := verdict(self._reply(content, seed=number))) is not None:
                return found
        return None

    def _reply(self, content: list[dict[str, object]], seed: int) -> str:
        from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAIError

        try:
            reply = self._client.chat.completions.create(
                model=self._model,
                messages=[{"role": "user", "content": content}],  # type: ignore[misc, list-item]
                temperature=0,
                seed=seed,
            )
            return reply.choices[0].message.content or ""
        except APITimeoutError as error:
            raise JigsawError(f"--judge: {self._url} gave no answer within {self._timeout:g} s") from error
        except APIConnectionError as error:
            raise JigsawError(f"--judge: {self._url} cannot be reached ({error.__cause__ or error})") from error
        except APIStatusError as error:
            reason = error.response.reason_phrase
            raise JigsawError(f"--judge: {self._url} refuses with {error.status_code} {reason}") from error
        except (OpenAIError, AttributeError, IndexError, TypeError, ValueError) as error:
            raise JigsawError(f"--judge: {self._url} does not answer as an OpenAI-compatible server") from error
