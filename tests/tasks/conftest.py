"""Makes `made_media`, the makers of test media, importable for the tests of tasks."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
