"""The command that continues a run that was stopped.

In: the arguments that the user launched, and the run folder. Out: one line for a shell.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from jigsaw.config.loading import load_recipe
from jigsaw.errors import JigsawError


def resume_command(recipe: str, overrides: Sequence[str], options: Sequence[str], output: str, *, tiny: bool) -> str:
    """The command line that continues a run.

    Args:
        recipe: the recipe argument of the user.
        overrides: the overrides of the user.
        options: options of the command without `--resume`, such as `["--tiny"]`.
        output: the run folder; it is added as `output=` if the recipe with `--resume` would resolve to another.
        tiny: whether the tiny preset was launched.
    """
    try:
        resolved = load_recipe(recipe, overrides, resume=True, tiny=tiny).output
    except (JigsawError, OSError):  # the file was changed or moved since
        resolved = None
    added = [] if resolved == output else [f"output={output}"]
    kept = [override for override in overrides if not (added and override.startswith("output="))]
    return shlex.join(["jigsaw", "launch", recipe, *kept, *added, *options, "--resume"])
