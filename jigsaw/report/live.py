"""The report of a run that is still training, written again after each periodic evaluation.

In: a run folder. Out: its `report.html`. Training goes on whatever happens here.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from jigsaw.errors import first_line
from jigsaw.run_folder import RunFolder


class LiveReport:
    """Writes the report of a run when it is called; a failure is one warning, and never stops the run.

    Args:
        folder: the run folder.
        console: gets the warning.
    """

    def __init__(self, folder: Path, console: Console) -> None:
        self._folder, self._console, self._warned = folder, console, False

    def __call__(self) -> None:
        """Write the page."""
        path = RunFolder(self._folder).report
        try:
            from jigsaw.report.page import write_report

            write_report([self._folder], path, training=True)
        except Exception as error:  # whatever it is, it must not cost a training run
            if not self._warned:
                self._console.print(
                    f"warning: {path} was not updated ({type(error).__name__}: {first_line(error)});"
                    " training continues",
                    highlight=False,
                    markup=False,
                    soft_wrap=True,
                )
            self._warned = True
