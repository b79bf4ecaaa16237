"""Models that edit or draw pictures: a plug-in function, or a model on an HTTP server.

In: `package.module:name`, `path/to/file.py:name` or `MODEL@URL` (an OpenAI-style images API). Out: a function. An
editor takes a picture and a prompt and returns a picture; a generator takes a prompt and returns a picture::

    def edit(image: PIL.Image.Image, prompt: str) -> PIL.Image.Image: ...
    def draw(prompt: str) -> PIL.Image.Image: ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image

from jigsaw import plugins
from jigsaw.errors import JigsawError
from jigsaw.realunify.endpoint import Endpoint, RefusedError, split_spec

KIND = plugins.Kind(what="function", error=JigsawError, is_one=callable)


def load_function(spec: str, option: str, *, timeout: float = 300.0) -> Callable[..., Any]:
    """The function of a spec. For an endpoint it is `edit` or `draw`, by the name of the option.

    Args:
        spec: module or file, a colon, a name; or `MODEL@URL`.
        option: the command-line option. One that ends in `editor` is for an editor, any other for a generator.
        timeout: seconds per answer of an endpoint.

    Raises:
        JigsawError: the function does not exist or cannot be imported, or the address is not valid.
    """
    if parts := split_spec(spec):
        endpoint = Endpoint(option, parts[1], parts[0], timeout=timeout)
        return endpoint.edit if option.endswith("editor") else endpoint.draw
    try:
        function = plugins.find(spec, KIND)
    except JigsawError as error:
        raise JigsawError(f"{option}: {error}") from error
    if not callable(function):
        raise JigsawError(f"{option}: {spec} is not a function")
    return function


def picture_of(function: Callable[..., Any], option: str, *arguments: Any) -> Image.Image | None:
    """Call an editor or generator; None if its server declines the content of the request.

    Raises:
        JigsawError: the function fails, or does not return a picture.
    """
    try:
        picture = function(*arguments)
    except RefusedError:
        return None
    except JigsawError:
        raise
    except Exception as error:
        raise JigsawError(f"{option}: the plug-in failed ({type(error).__name__}: {error})") from error
    if not isinstance(picture, Image.Image):
        raise JigsawError(f"{option}: the plug-in returned a {type(picture).__name__}, not a PIL image")
    return picture.convert("RGB")
