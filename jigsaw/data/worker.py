"""The program of one worker process: answers each path it is sent with what `jigsaw.data.planning` makes of it.

Started by `jigsaw.data.pool` as `python -P -m jigsaw.data.worker FD` (a safe path: no module of the working directory
can shadow ours), with a pipe to its parent. In: a `Job`, then relative paths. Out: for each path its `Planned`. It dies
with its parent.
"""

from __future__ import annotations

import sys
import traceback
from multiprocessing.connection import Connection

from jigsaw.data.planning import plan_source
from tasks import get_task


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent goes, even in the middle of a decoder that hangs."""
    import ctypes
    import signal

    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def serve(connection: Connection) -> None:
    """Answer requests until the parent hangs up."""
    job, search_path = connection.recv()
    # What the parent can import, a plug-in named by module can need; ours and the installed packages come first.
    sys.path.extend(entry for entry in search_path if entry not in sys.path)
    try:
        task = get_task(job.spec, **job.config)
    except Exception:
        connection.send(("broken", traceback.format_exc()))
        return
    connection.send(("ready", None))
    while True:
        path = connection.recv()
        connection.send(("done", plan_source(task, job, path)))


if __name__ == "__main__":
    _die_with_parent()
    try:
        serve(Connection(int(sys.argv[1])))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        sys.exit(0)
