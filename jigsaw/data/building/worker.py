"""The program of a worker process: applies the function of the job to each item and returns the result.

Started by the pool as `python -P -m jigsaw.data.building.worker FD` (with -P, so that
modules of the working directory cannot shadow others), with a pipe to its parent. In: a `Job`, then items. Out: the
result for each item. It ends with its parent.
"""

from __future__ import annotations

import pkgutil
import sys
import traceback
from multiprocessing.connection import Connection

from jigsaw.processes import die_with_parent


def serve(connection: Connection) -> None:
    """Answer requests until the parent closes the pipe."""
    job, search_path = connection.recv()
    # A plug-in may import what the parent can import. Jigsaw and the installed packages come first.
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
