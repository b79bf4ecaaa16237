"""A model family under test: a tiny model or a checkpoint, its prompts, and differences of its figures.

The reference of log-probabilities is the model's own forward pass on one sequence without padding, in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jigsaw.testing.findings import ContractError

LIMIT = 1e-4
"""Largest allowed difference of a log-probability in nats."""

LENGTHS = (5, 1, 3, 7)
"""Numbers of tokens of the completions of a group."""

WORDS = ("Piece 1:", "Piece 2:", "Which piece is which?", "2, 1", "system", "user", "assistant")
"""Texts on which the tokenizer of a tiny model is trained."""

Row = dict[str, Any]


class Case:
    """A model that the properties are checked on."""

    def __init__(self, model: str, folder: Path) -> None:
        from jigsaw.models.tiny import TinySizes, write_tiny

        self.name, self.folder = model, folder
        self.tiny = not Path(model).is_dir()
        if self.tiny:
            sizes = {"hidden_size": 64, "num_layers": 3, "vision_hidden_size": 64, "vision_layers": 2}
            write_tiny(model, TinySizes(initializer_range=0.1, **sizes), WORDS, folder)
        else:
            self.folder = Path(model)

    @cached_property
    def processor(self) -> Any:
        """The processor of the checkpoint."""
        from jigsaw.models.load import load_processor

        return load_processor(str(self.folder))

    @cached_property
    def model(self) -> Any:
        """The model in float32 and in evaluation mode."""
        from jigsaw.models.load import load_model

        return load_model(str(self.folder))

    @cached_property
    def family(self) -> Any:
        """The model's family."""
        from jigsaw.models.families import family_of

        return family_of(self.model)

    @cached_property
    def rows(self) -> dict[str, list[Row]]:
        """Prompts with every kind of medium and unequal lengths."""
        unit = self.family.pixel_unit(self.processor)
        wide, tall, square = (2 * unit, unit), (unit, 2 * unit), (3 * unit, 3 * unit)
        return {
            "one image": [_row("one", _image(0, wide)), _row("tall", _image(1, tall))],
            "several images": [
                _row("two", _image(2, wide), _image(3, wide)),
                _row("three", _image(4, square), _image(5, tall), _image(6, wide)),
            ],
            "video": [
                _row("clip", _clip(7, wide, 4, 2.0)),
                _row("clips", _clip(8, wide, 6, 2.7), _image(9, tall), _clip(10, wide, 3, 1.0)),
            ],
        }

    @property
    def every_row(self) -> list[Row]:
        """The prompts with all kinds of media."""
        return [row for rows in self.rows.values() for row in rows]

    def groups(self, rows: Sequence[Row]) -> list[list[list[int]]]:
        """A group of completions for each row."""
        rng = np.random.default_rng(0)
        return [[rng.integers(0, 200, length).tolist() for length in LENGTHS] for _ in rows]

    def apart(self, rows: Sequence[Row], **options: Any) -> float:
        """The largest difference of a log-probability from the reference, over all completions of all groups."""
        import torch

        from jigsaw.models.self_check import sequence_log_probabilities
        from jigsaw.models.shared_prefix import completion_log_probabilities

        groups = self.groups(rows)
        with torch.no_grad():
            ours = completion_log_probabilities(self.model, self.processor, rows, groups, **options)
            differences = [
                (scores - sequence_log_probabilities(self.model, self.processor, row, torch.tensor(tokens))).abs().max()
                for row, group, found in zip(rows, groups, ours, strict=True)
                for tokens, scores in zip(group, found, strict=True)
            ]
        return float(torch.stack(differences).max())


def _image(seed: int, size: tuple[int, int]) -> Any:
    from PIL import Image

    return Image.fromarray(_pixels(seed, size, 1)[0])


def _clip(seed: int, size: tuple[int, int], frames: int, fps: float) -> Any:
    from jigsaw.tasks import Clip

    return Clip(frames=_pixels(seed, size, frames), times=np.arange(frames) / fps, fps=fps)


def _pixels(seed: int, size: tuple[int, int], frames: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (frames, size[1], size[0], 3), dtype=np.uint8)


def _row(name: str, *media: Any) -> Row:
    content: list[dict[str, str]] = []
    for number, medium in enumerate(media):
        kind = "video" if hasattr(medium, "frames") else "image"
        content += [{"type": "text", "text": f"Piece {number + 1}:"}, {"type": kind}]
    content.append({"type": "text", "text": "Which piece is which?"})
    return {
        "id": name,
        "prompt": [{"role": "user", "content": content}],
        "images": [medium for medium in media if not hasattr(medium, "frames")],
        "videos": [medium for medium in media if hasattr(medium, "frames")],
    }


def within(apart: float, what: str = "nats") -> str:
    """A difference as text.

    Raises:
        ContractError: it is above `LIMIT`.
    """
    if not apart <= LIMIT:  # NaN too
        raise ContractError(f"off by {apart:.1e} {what}; rounding is at most {LIMIT:g}")
    return f"{apart:.0e}".replace("e-0", "e-").replace("0e+00", "0")


def gradients(case: Case, model: Any, rows: Sequence[Row], **options: Any) -> dict[str, Any]:
    """Gradients of a weighted sum of all log-probabilities, by parameter."""
    import torch

    from jigsaw.models.shared_prefix import completion_log_probabilities

    groups = case.groups(rows)
    found = completion_log_probabilities(model, case.processor, rows, groups, **options)
    scores = torch.cat([tokens for group in found for tokens in group])
    weights = torch.rand(len(scores), generator=torch.Generator().manual_seed(1)) - 0.3
    model.zero_grad()
    (scores * weights).sum().backward()
    gradients = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    model.zero_grad()
    return gradients


def relative(first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    """The largest difference of a parameter's gradient, relative to the norm of all gradients."""
    import torch

    if first.keys() != second.keys():
        raise ContractError(f"different parameters have gradients: {sorted(first.keys() ^ second.keys())[:3]}")
    total = float(torch.stack([gradient.norm() for gradient in second.values()]).norm())
    return max(float((first[name] - gradient).norm()) for name, gradient in second.items()) / total
