"""Progress of long operations: a bar on a terminal, and lines in a log file."""

import pytest

from jigsaw import progress
from jigsaw.progress import progress_bar


@pytest.fixture
def clock(monkeypatch):
    seconds = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    return seconds


def test_a_log_file_gets_a_line_per_minute(clock, capsys):
    with progress_bar("puzzles", 10) as bar:
        for _ in range(7):
            clock[0] += 25
            bar.advance("2 rejected")
    assert capsys.readouterr().err == "puzzles: 3 of 10, 2 rejected\npuzzles: 6 of 10, 2 rejected\n"


def test_disabled_progress_prints_nothing(clock, capsys):
    with progress_bar("puzzles", 10, enabled=False) as bar:
        clock[0] += 100
        bar.advance()
    assert capsys.readouterr().err == ""
