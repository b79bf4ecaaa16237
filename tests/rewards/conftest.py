"""Makes `mutations`, the mutations of completions, importable for the tests of rewards."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
