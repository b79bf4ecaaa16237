"""A training process that torchrun starts: `python -m jigsaw.launch.worker RUN_FOLDER STAGE`.

In: a run folder that the launcher has prepared. Out: the results of `jigsaw.training.stages`. Each process prints its
errors in one line, as the command does, or with a traceback if the command's `--debug` has set `JIGSAW_DEBUG`.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from rich.console import Console

from jigsaw.config.loading import load_recipe
from jigsaw.failures import DEBUG, expected_error, hide_library_warnings
from jigsaw.processes import die_with_parent, skip_teardown
from jigsaw.run_folder import RunFolder
from jigsaw.stop_request import StopRequest
from jigsaw.training.distributed import process_group
from jigsaw.training.stages import stages_of, train_stage


def main(folder: str, name: str) -> NoReturn:
    """Train one stage of a run as one of several processes."""
    status = 1
    skip_teardown(lambda: status)
    die_with_parent()
    try:
        run = RunFolder(folder)
        recipe = load_recipe(str(run.recipe))
        stage = next(stage for stage in stages_of(recipe, run) if stage.name == name)
        # The launcher handles Ctrl-C; a second one ends this process.
        with process_group(recipe.distributed) as rank, StopRequest(run.stop, [signal.SIGTERM], quiet=True) as stop:
            hide_library_warnings(quiet=rank > 0)
            train_stage(recipe, stage, run, Console(quiet=rank > 0), stop)
        status = 0
    except Exception as error:
        line = expected_error(error)
        if line is None or DEBUG in os.environ:
            raise
        print(f"jigsaw: {line}", file=sys.stderr, flush=True)  # noqa: T201
    sys.exit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
