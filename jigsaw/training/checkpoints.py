"""What a killed run goes on from: checkpoints that are complete or absent, and SIGTERM that makes one.

In: a trainer's events. Out: `checkpoints/STAGE/checkpoint-N`, with weights, optimizer, schedule and randomness of every
process after step N. The trainer writes into a scratch folder; what is whole is renamed into place. Checkpoints are
taken at generation boundaries only (rollouts are not saved), so that a resumed run makes the steps that the killed one
would have made.
"""

from __future__ import annotations

import shutil
import signal
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from transformers import TrainerCallback


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the highest step in a folder of `checkpoint-N`; None where there is none."""
    found = sorted(folder.glob("checkpoint-*"), key=checkpoint_step)
    return found[-1] if found else None


def checkpoint_step(checkpoint: Path) -> int:
    """The step after which a checkpoint was taken."""
    return int(checkpoint.name.rpartition("-")[2])


class StopRequest:
    """Whether training was asked to stop: by SIGTERM to this process, or by a file that the launcher wrote.

    A context manager: SIGTERM is caught inside it alone, and becomes the file, so that a request in the last step is
    heeded after it. The file is also how a launcher passes the request on to the processes that it started, on all
    nodes; a signal would reach their data workers too, and kill them.

    Args:
        file: the file that stands for a request.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._signalled = False
        self._before: Any = None

    def __enter__(self) -> StopRequest:
        self._before = signal.signal(signal.SIGTERM, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True
        with suppress(OSError):  # of a full disk; this process knows
            self._file.touch()

    @property
    def made(self) -> bool:
        """Whether this process knows of a request."""
        return self._signalled or self._file.exists()


class CheckpointCallback(TrainerCallback):  # type: ignore[misc]  # transformers comes without types
    """Takes checkpoints at intervals and when a stop is asked for, and moves them into place when whole.

    Args:
        folder: where whole checkpoints go.
        every: steps between them, rounded up to a generation boundary.
        keep: how many of the newest are kept.
        boundary: steps that are trained on one generation batch.
        stop: asked after every step.

    Attributes:
        stopped_at: the step after which training stopped because it was asked to; None while it was not.
    """

    def __init__(self, folder: Path, *, every: int, keep: int, boundary: int, stop: StopRequest) -> None:
        self._folder, self._keep, self._boundary, self._stop = folder, keep, boundary, stop
        self._every = -(-every // boundary) * boundary
        self.stopped_at: int | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for a checkpoint where one is due; end training where a stop was asked for."""
        stop = _any_process(self._stop.made, args.device)
        step = state.global_step
        if step % self._boundary or step >= state.max_steps:
            return
        if stop:
            self.stopped_at = step
            control.should_training_stop = True
        if stop or step % self._every == 0:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the checkpoint that the trainer has just written into place, and drop the oldest."""
        _wait_for_all()
        if state.is_world_process_zero:
            name = f"checkpoint-{state.global_step}"
            self._folder.mkdir(parents=True, exist_ok=True)
            (Path(args.output_dir) / name).replace(self._folder / name)
            for old in sorted(self._folder.glob("checkpoint-*"), key=checkpoint_step)[: -self._keep]:
                # Renamed first: what is called a checkpoint is whole even while an old one is being deleted.
                shutil.rmtree(old.replace(old.with_name(f".{old.name}.old")))
        _wait_for_all()


def _any_process(flag: bool, device: Any) -> bool:
    """Whether the flag is set on any process; all of them must ask together, and all get the same answer."""
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        return flag
    value = torch.tensor(int(flag), device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())


def _wait_for_all() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.barrier()
