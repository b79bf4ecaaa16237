"""A judge of pictures behind any OpenAI-compatible endpoint: yes-or-no questions about one picture.

In: a picture and a question. Out: True, False, or None where it said neither as often as it was asked. A server that
refuses or does not answer in time is an error: without a judge there is nothing to go on with.
"""

from __future__ import annotations

import json
import os
import re
import time
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from PIL import Image

from jigsaw.errors import JigsawError
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
    """Asks an endpoint.

    Args:
        url: up to and with `/v1`.
        model: name that the endpoint knows.
        key: sent as bearer; the environment's `OPENAI_API_KEY` if None.
        tries: of a question, each time the reply is no verdict or the server is busy.
        timeout: seconds for one reply.
    """

    def __init__(self, url: str, model: str, *, key: str | None = None, tries: int = 3, timeout: float = 120.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise JigsawError(f"--judge: {url!r} is no address such as http://127.0.0.1:8000/v1")
        self._url = url.rstrip("/") + "/chat/completions"
        self._model, self._tries, self._timeout = model, tries, timeout
        self._key = os.environ.get("OPENAI_API_KEY", "none") if key is None else key

    def ask(self, image: Image.Image, question: str) -> bool | None:
        """The judge's verdict on one question.

        Raises:
            JigsawError: the server refuses, cannot be reached, or does not answer in time.
        """
        content = [
            {"type": "image_url", "image_url": {"url": data_uri(image, lossless=True)}},
            {"type": "text", "text": ASKED + question},
        ]
        body = {"model": self._model, "messages": [{"role": "user", "content": content}], "temperature": 0}
        for number in range(self._tries):
            reply = self._reply(json.dumps(body | {"seed": number}).encode(), last=number == self._tries - 1)
            found = None if reply is None else verdict(reply)
            if found is not None:
                return found
        return None

    def _reply(self, body: bytes, last: bool) -> str | None:
        """The text of one reply; None to try again."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        request = Request(self._url, data=body, headers=headers)
        try:
            with urlopen(request, timeout=self._timeout) as answer:
                return str(json.load(answer)["choices"][0]["message"]["content"] or "")
        except HTTPError as error:
            if error.code not in (429, 500, 502, 503, 504) or last:
                raise JigsawError(f"--judge: {self._url} refuses with {error.code} {error.reason}") from error
        except (TimeoutError, URLError, ConnectionError) as error:
            reason = getattr(error, "reason", error)
            slow = isinstance(error, TimeoutError) or isinstance(reason, TimeoutError)
            if last or not slow:
                what = f"gave no answer within {self._timeout:g} s" if slow else f"cannot be reached ({reason})"
                raise JigsawError(f"--judge: {self._url} {what}") from error
        except (ValueError, KeyError, IndexError, TypeError) as error:
            if last:
                raise JigsawError(f"--judge: {self._url} does not answer as an OpenAI-compatible server") from error
        time.sleep(0.2)
        return None
