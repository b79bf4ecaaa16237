"""A model on an OpenAI-compatible HTTP server, which answers questions, draws pictures or edits them.

In: an address such as `http://127.0.0.1:8000/v1`, and the name of a model. Out: texts (`/chat/completions`) and
pictures (`/images/generations` and `/images/edits`, as base64 or as a URL). OpenAI's client repeats a request if the
server is busy, slow or cannot be reached. Any other failure is an error of one line that names the option.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urljoin

from PIL import Image

from jigsaw.errors import JigsawError, first_line
from jigsaw.extras import install_command
from jigsaw.pictures import data_uri

LARGEST = 64 * 2**20
"""Maximum number of bytes of a picture from an endpoint."""
AT_ONCE = 8
"""Number of simultaneous requests to an endpoint."""
TRIES = 3
"""Number of attempts per request, and per question to the judge."""

T = TypeVar("T")


class RefusedError(JigsawError):
    """The server declined one request because of its content; other requests may succeed."""


def split_spec(spec: str) -> tuple[str, str] | None:
    """The model's name and the address of `MODEL@URL`; None for anything else, such as a plug-in.

    >>> split_spec("flux@http://127.0.0.1:8000/v1"), split_spec("my_tools.py:edit")
    (('flux', 'http://127.0.0.1:8000/v1'), None)
    """
    for scheme in ("@http://", "@https://"):
        name, separator, rest = spec.partition(scheme)
        if separator:
            return name, f"{scheme[1:]}{rest}"
    return None


class Endpoint:
    """One model on one server. The API key is the environment variable `OPENAI_API_KEY`.

    Args:
        option: the command-line option that names it, for messages.
        url: address of the server, including `/v1`.
        model: the model's name on the server.
        tries: number of attempts per request.
        timeout: seconds per attempt.

    Raises:
        JigsawError: the address is not valid, or OpenAI's client is not installed.
    """

    def __init__(self, option: str, url: str, model: str, *, tries: int = TRIES, timeout: float = 300.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise JigsawError(f"{option}: {url!r} is not an address such as http://127.0.0.1:8000/v1")
        if not model:
            raise JigsawError(f"{option}: the model's name is missing; write MODEL@{url}")
        try:
            from openai import OpenAI
        except ImportError as error:
            raise JigsawError(f"{option}: OpenAI's client is not installed; {install_command('judge')}") from error
        key = os.environ.get("OPENAI_API_KEY", "none")
        self._client = OpenAI(base_url=url, api_key=key, timeout=timeout, max_retries=tries - 1)
        self._option, self._url, self._model, self._tries, self._timeout = option, url, model, tries, timeout

    def chat(self, content: Sequence[Mapping[str, Any]], **options: Any) -> str:
        """The reply to one user message, greedily decoded.

        Args:
            content: text and image parts in OpenAI's format.
            options: further fields of the request, such as `seed`.

        Raises:
            RefusedError: the server declines this message.
            JigsawError: the server fails, cannot be reached, or is too slow.
        """
        messages: Any = [{"role": "user", "content": list(content)}]

        def request() -> str:
            reply = self._client.chat.completions.create(model=self._model, messages=messages, temperature=0, **options)
            return reply.choices[0].message.content or ""

        return self._call(request)

    def answer(self, rows: Sequence[Mapping[str, Any]], **options: Any) -> list[list[str]]:
        """One text for each row, as an engine gives them; empty if the server declines the row's content.

        Args:
            rows: with `prompt` and `images`.
            options: further fields of the request, such as `max_completion_tokens`.
        """

        def reply(row: Mapping[str, Any]) -> str:
            images = iter(row.get("images", ()))
            parts = [part for turn in row["prompt"] for part in turn["content"]]
            try:
                content = [image_part(next(images)) if part["type"] == "image" else part for part in parts]
                return self.chat(content, **options)
            except RefusedError:
                return ""

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return [[text] for text in pool.map(reply, rows)]

    def draw(self, prompt: str) -> Image.Image:
        """A picture for a prompt.

        Raises:
            RefusedError: the server declines this prompt.
            JigsawError: as for `chat`, or the answer is not a picture.
        """
        return self._call(lambda: self._picture(self._client.images.generate(model=self._model, prompt=prompt, n=1)))

    def edit(self, image: Image.Image, prompt: str) -> Image.Image:
        """The picture, edited by a prompt.

        Raises:
            RefusedError: the server declines this prompt.
            JigsawError: as for `chat`, or the answer is not a picture.
        """
        stream = io.BytesIO()
        image.save(stream, "PNG")
        file = ("image.png", stream.getvalue(), "image/png")
        return self._call(
            lambda: self._picture(self._client.images.edit(model=self._model, image=file, prompt=prompt, n=1))
        )

    def _call(self, request: Callable[[], T]) -> T:
        """The result of a request. Failures are errors of one line."""
        from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAIError

        where = f"{self._option}: {self._url}"
        try:
            return request()
        except APITimeoutError as error:
            raise JigsawError(f"{where} did not answer within {self._timeout:g} s") from error
        except APIConnectionError as error:
            raise JigsawError(f"{where} cannot be reached ({error.__cause__ or error})") from error
        except APIStatusError as error:
            message = str(error.body.get("message") or "") if isinstance(error.body, Mapping) else ""
            text = f"{where} refuses with {error.status_code} {error.response.reason_phrase}"
            text += f": {first_line(ValueError(message))[:200]}" if message else ""
            code = str(error.code or "")
            declined = any(word in code for word in ("moderation", "content_policy", "content_filter"))
            raise (RefusedError if declined else JigsawError)(text) from error
        except (OpenAIError, AttributeError, IndexError, TypeError, ValueError) as error:
            raise JigsawError(f"{where} does not answer as an OpenAI-compatible server") from error

    def _picture(self, reply: Any) -> Image.Image:
        """The first picture in an answer of the images API.

        Raises:
            JigsawError: there is no picture, or it cannot be downloaded or read.
        """
        picture = reply.data[0] if reply.data else None
        encoded, address = getattr(picture, "b64_json", None) or "", getattr(picture, "url", None) or ""
        if not encoded and not address:
            raise JigsawError(f"{self._option}: {self._url} answered without a picture (neither b64_json nor url)")
        try:
            if not encoded and address.startswith("data:"):
                encoded = address
            data = base64.b64decode(encoded.rpartition(",")[2], validate=True) if encoded else self._fetch(address)
            with Image.open(io.BytesIO(data)) as opened:
                return _on_white(opened)
        except (OSError, SyntaxError, binascii.Error, Image.DecompressionBombError) as error:
            text = f"{self._option}: the picture from {self._url} cannot be read ({first_line(error)[:200]})"
            raise JigsawError(text) from error

    def _fetch(self, address: str) -> bytes:
        """The content of a URL from an answer. The API key is not sent."""
        import httpx

        target = urljoin(self._url.rstrip("/") + "/", address)
        problem: Exception | None = None
        for _ in range(self._tries):
            try:
                with httpx.stream("GET", target, timeout=self._timeout, follow_redirects=True) as reply:
                    reply.raise_for_status()
                    data = bytearray()
                    for part in reply.iter_bytes():
                        data += part
                        if len(data) > LARGEST:
                            raise JigsawError(f"{self._option}: the picture at {target} has more than {LARGEST} bytes")
                    return bytes(data)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                problem = error
        assert problem is not None
        text = f"{self._option}: the picture at {target} cannot be fetched ({first_line(problem)[:200]})"
        raise JigsawError(text) from problem


def image_part(image: Image.Image) -> dict[str, Any]:
    """A picture as a part of a message in OpenAI's format."""
    return {"type": "image_url", "image_url": {"url": data_uri(image, lossless=True)}}


def _on_white(image: Image.Image) -> Image.Image:
    """A picture as RGB, with transparent pixels in white."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    white.alpha_composite(layer)
    return white.convert("RGB")
