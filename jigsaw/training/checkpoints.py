"""Checkpoints and graceful stop of a training stage.

In: a trainer's events. Out: `checkpoints/STAGE/checkpoint-N`, with weights, optimizer, schedule and random states of
all processes after step N. The trainer writes to a scratch folder; a complete checkpoint gets a list of its files
(`files.json`, with sizes and hashes) and is renamed into place. Checkpoints are only taken at generation boundaries,
since rollouts are not saved, so that a resumed run makes the same steps as an uninterrupted one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from jigsaw.errors import JigsawError, first_line
from jigsaw.run_folder import checkpoint_step, latest_checkpoint
from jigsaw.stop_request import StopRequest
from jigsaw.training.distributed import all_gather_object

FILES = "files.json"
BLOCK = 1 << 20
HASHED_BLOCKS = 64
"""A file of at most 64 MiB is hashed completely, a larger one in 64 evenly spread blocks of 1 MiB: a hash of the 84 GB
of a 7B model's checkpoint would take minutes, and truncated or missing data change the blocks."""


def list_files(checkpoint: Path) -> None:
    """Write the list of a checkpoint's files, with which `damage_of` compares them."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path != checkpoint / FILES)
    listed = {str(path.relative_to(checkpoint)): [path.stat().st_size, _hash(path)] for path in files}
    (checkpoint / FILES).write_text(json.dumps(listed, indent=1), encoding="utf-8")


def damage_of(checkpoint: Path) -> str | None:
    """The damage of a checkpoint's files in one line; None if they are as they were saved."""
    try:
        listed = json.loads((checkpoint / FILES).read_text(encoding="utf-8"))
        for name, (size, expected) in listed.items():
            path = checkpoint / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes instead of {size}"
            if _hash(path) != expected:
                return f"{name} has changed since it was saved"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"{FILES} cannot be read ({first_line(error)})"
    return None


def quarantine_damaged(folder: Path) -> list[str]:
    """Rename the damaged ones among the newest checkpoints, so that the latest checkpoint is intact.

    Args:
        folder: the folder of `checkpoint-N`; it need not exist.

    Returns:
        One line for each checkpoint that was renamed.

    Raises:
        JigsawError: there are checkpoints and all are damaged.
    """
    found = sorted(folder.glob("checkpoint-*"), key=checkpoint_step, reverse=True)
    damaged: list[tuple[Path, str]] = []
    for checkpoint in found:
        damage = damage_of(checkpoint)
        if damage is None:
            break
        damaged.append((checkpoint, damage))
    if found and len(damaged) == len(found):
        checkpoint, damage = damaged[0]
        raise JigsawError(
            f"{checkpoint} is damaged ({damage}) and there is no older one: restore it, "
            f"or delete {folder} to restart the stage"
        )
    lines = []
    for checkpoint, damage in damaged:
        target = checkpoint.with_name(f".damaged-{checkpoint.name}")
        shutil.rmtree(target, ignore_errors=True)
        checkpoint.replace(target)
        lines.append(f"{checkpoint} is damaged ({damage}); continuing from {found[len(damaged)].name} instead")
    return lines


def _hash(path: Path) -> str:
    digest, size = blake2b(digest_size=16), path.stat().st_size
    with path.open("rb") as file:
        if size <= HASHED_BLOCKS * BLOCK:
            digest.update(file.read())
        else:
            for number in range(HASHED_BLOCKS):
                file.seek((size - BLOCK) * number // (HASHED_BLOCKS - 1))
                digest.update(file.read(BLOCK))
    return digest.hexdigest()


class CheckpointCallback(TrainerCallback):  # type: ignore[misc]  # transformers comes without types
    """Takes checkpoints at intervals and on a stop request, and moves them into place when they are complete.

    Args:
        folder: the folder for complete checkpoints.
        every: steps between checkpoints, rounded up to a generation boundary.
        keep: number of newest checkpoints to keep.
        boundary: steps per generation batch.
        stop: the stop request, which is read after every step.

    Attributes:
        stopped_at: the step after which training stopped on request; None if it did not.
    """

    def __init__(self, folder: Path, *, every: int, keep: int, boundary: int, stop: StopRequest) -> None:
        self._folder, self._keep, self._boundary, self._stop = folder, keep, boundary, stop
        self._every = -(-every // boundary) * boundary
        self._saving: tuple[int, Path] | None = None
        self.stopped_at: int | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the text about when a stop request would take effect."""
        step = state.global_step + 1
        end = min(-(-step // self._boundary) * self._boundary, state.max_steps)
        self._stop.when = "after this step and saving" if end == step else f"after step {end} and saving"

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Request a checkpoint if one is due; end training on a stop request."""
        stop = any(all_gather_object(self._stop.requested))  # if one process has a request, all of them stop
        step = state.global_step
        if step % self._boundary or step >= state.max_steps:
            return
        if stop:
            self.stopped_at = step
            control.should_training_stop = True
        if stop or step % self._every == 0:
            control.should_save = True
            self._saving = (step, Path(args.output_dir) / f"checkpoint-{step}")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the checkpoint that the trainer has written into place, and delete the oldest ones."""
        _wait_for_all()
        if state.is_world_process_zero:
            written = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            list_files(written)
            self._folder.mkdir(parents=True, exist_ok=True)
            written.replace(self._folder / written.name)
            for old in sorted(self._folder.glob("checkpoint-*"), key=checkpoint_step)[: -self._keep]:
                # Renamed first, so that every `checkpoint-N` is complete, even during the deletion.
                shutil.rmtree(old.replace(old.with_name(f".{old.name}.old")))
        self._saving = None
        _wait_for_all()

    @contextmanager
    def explain_save_errors(self) -> Iterator[None]:
        """Convert a failure to save a checkpoint inside the block, such as a full disk, to a `JigsawError`.

        Raises:
            JigsawError: a checkpoint could not be written; the message has the reason and the latest checkpoint.
        """
        try:
            yield
        except (OSError, RuntimeError) as error:
            if self._saving is None:
                raise
            step, partial = self._saving
            kept = latest_checkpoint(self._folder)
            place = "at the start of the stage" if kept is None else f"after step {checkpoint_step(kept)}"
            why = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
            free = shutil.disk_usage(partial.parent).free / 2**30
            shutil.rmtree(partial, ignore_errors=True)
            raise JigsawError(
                f"the checkpoint after step {step} could not be written ({why}; {free:.1f} GiB free): "
                f"make room and continue with --resume, which begins {place}"
            ) from error


def _wait_for_all() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.barrier()
