"""The command that continues a run that was stopped.

In: what the user launched, and the run folder that it took. Out: one line for a shell.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from jigsaw.config.loading import load_recipe
from jigsaw.errors import JigsawError


def resume_command(recipe: str, overrides: Sequence[str], options: Sequence[str], output: str, *, tiny: bool) -> str:
    """The command line that continues a run.

    Args:
        recipe: as the user named it.
        overrides: as the user gave them.
        options: of the command, such as `["--tiny"]`; without `--resume`.
        output: the run folder; it is named if the recipe with `--resume` would find another.
        tiny: whether the tiny preset was launched.
    """
    try:
        found = load_recipe(recipe, overrides, resume=True, tiny=tiny).output
    except (JigsawError, OSError):  # the file was changed or moved in the meantime
        found = None
    named = [] if found == output else [f"output={output}"]
    kept = [override for override in overrides if not (named and override.startswith("output="))]
    return shlex.join(["jigsaw", "launch", recipe, *kept, *named, *options, "--resume"])
