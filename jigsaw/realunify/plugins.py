"""Models that edit or draw pictures: a plug-in function, or a model behind an HTTP server.

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
    """The function that a spec names; of an endpoint its `edit` or `draw`, by the option's name.

    Args:
        spec: module or file, a colon, a name; or `MODEL@URL`.
        option: the option that named it; one that ends in `editor` edits, any other draws.
        timeout: seconds for one answer of an endpoint.

    Raises:
        JigsawError: there is no such function, it cannot be imported, or the address is not valid.
    """
    if named := split_spec(spec):
        endpoint = Endpoint(option, named[1], named[0], timeout=timeout)
        return endpoint.edit if option.endswith("editor") else endpoint.draw
    try:
        found = plugins.find(spec, KIND)
    except JigsawError as error:
        raise JigsawError(f"{option}: {error}") from error
    if not callable(found):
        raise JigsawError(f"{option}: {spec} is no function")
    return found


def picture_of(function: Callable[..., Any], option: str, *arguments: Any) -> Image.Image | None:
    """Call what makes a picture; None where its server declines the content of this request.

    Raises:
        JigsawError: it fails, or returns something else.
    """
    try:
        made = function(*arguments)
    except RefusedError:
        return None
    except JigsawError:
        raise
    except Exception as error:
        raise JigsawError(f"{option}: the plug-in failed ({type(error).__name__}: {error})") from error
    if not isinstance(made, Image.Image):
        raise JigsawError(f"{option}: the plug-in gave a {type(made).__name__}, not a PIL image")
    return made.convert("RGB")
