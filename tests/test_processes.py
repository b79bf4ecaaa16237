"""The end of a process: exit functions run and the slow teardown of the interpreter is skipped."""

from __future__ import annotations

import subprocess
import sys

import pytest

ENDING = """
import atexit, sys
from jigsaw.processes import skip_teardown

status = 1
skip_teardown(lambda: status)
atexit.register(print, "an exit function that was registered later", end="")

class Torn:
    def __del__(self):
        print("torn down", flush=True)

torn = Torn()
"""


@pytest.mark.parametrize(
    ("work", "status"),
    [("status = 0; sys.exit(0)", 0), ("sys.exit(1)", 1), ("raise ValueError('a message')", 1)],
)
def test_exit_functions_run_and_the_teardown_is_skipped(work, status):
    command = [sys.executable, "-c", ENDING + work]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert done.stdout == "an exit function that was registered later"
    assert ("ValueError: a message" in done.stderr) == ("raise" in work)
