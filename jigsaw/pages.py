"""HTML pages from templates, safe for text of any origin.

In: a folder of Jinja templates. Out: an environment that escapes markup and makes control characters visible.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

# Control characters become their Unicode pictures; characters that change the direction of text become U+FFFD.
_VISIBLE = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"}
_VISIBLE |= dict.fromkeys((*range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD)


def page_environment(folder: Path) -> Environment:
    """The environment of the templates in a folder; an undefined name in a template is an error."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )


def _printable(value: Any) -> Any:
    """Text that is safe in a page: models also write control characters and half surrogates."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return value.translate(_VISIBLE).encode("utf-8", "replace").decode("utf-8")
