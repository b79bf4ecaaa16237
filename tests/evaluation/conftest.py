"""What the tests of evaluations share: a small puzzle set, and a run folder on it."""

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "report")]

from made_runs import puzzle_set, run

__all__ = ["puzzle_set", "run"]
