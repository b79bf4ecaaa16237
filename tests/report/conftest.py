"""What the tests of reports share: a small puzzle set, and a run folder on it."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # pytest imports test files without making their folder searchable

from made_runs import puzzle_set, run

__all__ = ["puzzle_set", "run"]
