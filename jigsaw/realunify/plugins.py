"""Other people's picture models as plug-ins: a function in a package or a file.

In: `package.module:name` or `path/to/file.py:name`. Out: the function. An editor takes a picture and words and gives a
picture; a generator takes words and gives a picture::

    def edit(image: PIL.Image.Image, prompt: str) -> PIL.Image.Image: ...
    def draw(prompt: str) -> PIL.Image.Image: ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image

from jigsaw import plugins
from jigsaw.errors import JigsawError

KIND = plugins.Kind(what="function", error=JigsawError, is_one=callable)


def load_function(spec: str, option: str) -> Callable[..., Any]:
    """The function that a spec names.

    Args:
        spec: module or file, a colon, a name.
        option: under which it was given, for the error.

    Raises:
        JigsawError: there is none, or it cannot be imported.
    """
    try:
        found = plugins.find(spec, KIND)
    except JigsawError as error:
        raise JigsawError(f"{option}: {error}") from error
    if not callable(found):
        raise JigsawError(f"{option}: {spec} is no function")
    return found


def picture_of(function: Callable[..., Any], option: str, *arguments: Any) -> Image.Image:
    """Call a plug-in that makes a picture.

    Raises:
        JigsawError: it fails, or gives something else.
    """
    try:
        made = function(*arguments)
    except Exception as error:
        raise JigsawError(f"{option}: the plug-in failed ({type(error).__name__}: {error})") from error
    if not isinstance(made, Image.Image):
        raise JigsawError(f"{option}: the plug-in gave a {type(made).__name__}, not a PIL image")
    return made.convert("RGB")
