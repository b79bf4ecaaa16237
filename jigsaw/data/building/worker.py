"""The program of one worker process: answers each item it is sent with what the job's function makes of it.

Started by the pool as `python -P -m jigsaw.data.building.worker FD` (a safe path: no module of the working directory
can shadow ours), with a pipe to its parent. In: a `Job`, then items. Out: the function's result for each. It dies
with its parent.
"""

from __future__ import annotations

import pkgutil
import sys
import traceback
from multiprocessing.connection import Connection

from jigsaw.processes import die_with_parent


def serve(connection: Connection) -> None:
    """Answer requests until the parent hangs up."""
    job, search_path = connection.recv()
    # What the parent can import, a plug-in named by module can need; ours and the installed packages come first.
    sys.path.extend(entry for entry in search_path if entry not in sys.path)
    try:
        call = pkgutil.resolve_name(job.call)
        task = job.build.make_task()
    except Exception:
        connection.send(("broken", traceback.format_exc()))
        return
    connection.send(("ready", None))
    while True:
        item = connection.recv()
        connection.send(("done", call(task, job, item)))


if __name__ == "__main__":
    die_with_parent()
    try:
        serve(Connection(int(sys.argv[1])))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        sys.exit(0)
