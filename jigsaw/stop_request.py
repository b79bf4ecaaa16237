"""Requests to stop a run: Ctrl-C (SIGINT), SIGTERM, a terminal that was closed (SIGHUP), or a file in the run folder.

In: signals to this process, and the file, which the training processes of all nodes see. Out: the request, which code
reads where it can stop safely. The effect of a signal depends on the block it arrives in:

- inside `deferred(...)` (training steps, batches of an evaluation) the first signal is only recorded, and one line
  says when the run will stop; a second Ctrl-C raises `KeyboardInterrupt`;
- elsewhere it raises `KeyboardInterrupt` at once, since nothing would be lost (data are built part by part).

Output to a closed terminal is dropped without an error, so that a run can save before it ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TextIO

from jigsaw.errors import StoppedError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """A request to stop a run. A context manager that handles the signals inside its block.

    Args:
        file: the file of a request; a signal creates it.
        signals: the signals to handle. Python only handles signals in the main thread.
        quiet: do not print a line.

    Attributes:
        signal: the first signal that was received, or None.
        when: the text of the line about when the run will stop.
    """

    def __init__(self, file: Path, signals: Sequence[signal.Signals] = SIGNALS, *, quiet: bool = False) -> None:
        self._file, self._signals, self._quiet = file, signals, quiet
        self._before: dict[signal.Signals, Any] = {}
        self._streams: tuple[TextIO, TextIO] | None = None
        self._process = os.getpid()
        self._depth = 0
        self.signal: signal.Signals | None = None
        self.when = ""

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            # Under `nohup` SIGHUP is ignored, and the run continues without its terminal.
            handled = [number for number in self._signals if number != signal.SIGHUP or not _ignored(number)]
            self._before = {number: signal.signal(number, self._on_signal) for number in handled}
            self._streams = sys.stdout, sys.stderr
            sys.stdout, sys.stderr = (_Terminal(one) if one.isatty() else one for one in self._streams)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        if self._streams is not None:
            sys.stdout, sys.stderr = self._streams

    @property
    def requested(self) -> bool:
        """Whether there is a request."""
        return self.signal is not None or self._file.exists()

    @property
    def exit_code(self) -> int:
        """The exit code of a run that stops now: 128 plus the number of the signal (SIGTERM's without a signal)."""
        return 128 + (self.signal or signal.SIGTERM)

    @contextmanager
    def deferred(self, when: str) -> Iterator[None]:
        """Only record signals inside the block; the code in it reads `requested` or calls `check` where it can stop.

        Args:
            when: when the run will stop, for the printed line: "after this step and saving".
        """
        self.when, before = when, self.when
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            self.when = before

    def check(self, where: str) -> None:
        """Stop the run here if there is a request.

        Args:
            where: the place, for the message: "in its evaluation".

        Raises:
            StoppedError: there was a request.
        """
        if self.requested:
            raise StoppedError(f"{self._file.parent}: stopped and saved, {where}", self.exit_code)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            self._in_forked_child(number)
            return
        again = self.signal is not None
        self.signal = self.signal or signal.Signals(number)
        if not self._depth or (again and number == signal.SIGINT):
            raise KeyboardInterrupt
        with suppress(OSError):  # the disk may be full; this process has the request without the file
            self._file.touch()
        if not again and not self._quiet:
            self._print(f"Stopping {self.when}. Press Ctrl-C again to quit at once.")

    def _in_forked_child(self, number: int) -> None:
        """Handle a signal in a forked child, such as a data loader, which inherits the handler and ignores Ctrl-C."""
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    @staticmethod
    def _print(line: str) -> None:
        # Not through sys.stderr: the signal may have interrupted a write to it, which is not reentrant.
        start = "\n" if sys.stderr.isatty() else ""
        with suppress(OSError):
            os.write(2, f"{start}{line}\n".encode())


class _Terminal:
    """A text stream that ignores errors if its terminal was closed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) == signal.SIG_IGN
