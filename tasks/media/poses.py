"""Camera poses from files, and the motions between cameras.

In: a text file with the 4x4 camera-to-world matrix of a frame (metres; the camera looks along z, x is to the right and
y down, as in ScanNet, TUM and OpenCV), and a file with the focal lengths. Out: matrices, and motions in words. A lost
frame, whose pose ScanNet writes as -inf, has no pose. Other matrices must be a rotation and a translation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from jigsaw.tasks.media.formats import MediaError

Matrix = np.ndarray[Any, np.dtype[np.float64]]

ROTATION_ERROR = 1e-2
"""Largest allowed entry of `R @ R.T - I`, for rotations that were rounded when they were written."""

STEEPEST, ROLL = 70.0, 25.0
"""Limits in degrees of a camera's tilt up or down and its roll; beyond them "forward" is not defined in a room."""

SPREAD = 0.02
"""Least second eigenvalue of the cameras' right axes to estimate "up": the cameras turned by about 16 degrees."""

MOVE_STEP, TURN_STEP = 0.1, 5.0
"""Metres and degrees to which motions are rounded in words."""


class PoseError(MediaError):
    """A pose or a file of intrinsics cannot be used."""

    def __init__(self, detail: str) -> None:
        super().__init__("bad_pose", detail)


class Motion(TypedDict):
    """The motion of a camera relative to its first position.

    Attributes:
        right, up, forward: metres along the horizontal and vertical axes of the first camera.
        turn: degrees about the vertical, to the right.
        tilt: degrees upwards.
    """

    right: float
    up: float
    forward: float
    turn: float
    tilt: float


STILL: Motion = {"right": 0.0, "up": 0.0, "forward": 0.0, "turn": 0.0, "tilt": 0.0}
"""No motion: `apart(motion, STILL)` is the size of a motion."""


def read_pose(file: Path | bytes) -> Matrix | None:
    """A camera-to-world matrix, shape `(4, 4)`; None for a lost frame, whose pose is infinite or NaN.

    Raises:
        PoseError: the file has other content.
        OSError: it cannot be read.
    """
    pose = _numbers(file, (4,))
    finite = np.isfinite(pose[:3])
    if not finite.any():
        return None
    if not finite.all() or not np.isfinite(pose[3]).all():
        raise PoseError(
            "some of its numbers are infinite or NaN; in a lost frame all numbers of the first three rows are"
        )
    if not np.allclose(pose[3], (0, 0, 0, 1), atol=1e-6):
        raise PoseError(f"its last row is {_row(pose[3])}, not 0 0 0 1")
    turn = pose[:3, :3]
    if np.abs(turn @ turn.T - np.eye(3)).max() > ROTATION_ERROR:
        raise PoseError(
            "its upper left 3x3 numbers are not a rotation: the rows must have length 1 and be at right angles"
        )
    if np.linalg.det(turn) < 0:
        raise PoseError("its upper left 3x3 numbers mirror the scene (determinant -1); they must be a rotation")
    return pose


def read_intrinsics(file: Path | bytes) -> tuple[float, float, float, float]:
    """Focal lengths and principal point in pixels of the picture: `fx, fy, cx, cy`.

    The file is a 3x3 or 4x4 matrix as text, or a JSON object with `focal_length_px` and `principal_point_px`.

    Raises:
        PoseError: the file has other content.
        OSError: it cannot be read.
    """
    text = _text(file)
    if text.lstrip().startswith("{"):
        try:
            about = json.loads(text)
            focal, (x, y) = float(about["focal_length_px"]), about["principal_point_px"]
            values = (focal, focal, float(x), float(y))
        except (ValueError, KeyError, TypeError) as error:
            raise PoseError("it needs focal_length_px (a number) and principal_point_px (two numbers)") from error
    else:
        matrix = _numbers(file, (3, 4))
        values = (float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2]))
    if not (np.isfinite(values).all() and min(values[:2]) > 0):
        raise PoseError(f"its focal lengths and principal point {_row(values)} are not valid")
    return values


def _text(file: Path | bytes) -> str:
    data = file if isinstance(file, bytes) else file.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PoseError("it is not a text file") from error


def _numbers(file: Path | bytes, sides: Sequence[int]) -> Matrix:
    """A square matrix with one of these numbers of rows, from a text file."""
    rows = [line.replace(",", " ").split() for line in _text(file).splitlines() if line.strip()]
    if len(rows) not in sides or any(len(row) != len(rows) for row in rows):
        shape = f"{len(rows)} rows of {' or '.join(sorted({str(len(row)) for row in rows}))}" if rows else "no"
        raise PoseError(f"it has {shape} numbers, not {' or '.join(f'{side}x{side}' for side in sides)}")
    try:
        return np.array([[float(word) for word in row] for row in rows])
    except ValueError as error:
        raise PoseError(str(error)) from error


def _row(values: Sequence[float] | Matrix) -> str:
    return " ".join(f"{value:g}" for value in values)


@dataclass(frozen=True)
class Cameras:
    """The cameras of a scene and its vertical direction.

    Attributes:
        poses: camera-to-world matrices, shape `(N, 4, 4)`.
        up: unit vector opposite to gravity, shape `(3,)`.
    """

    poses: Matrix
    up: Matrix

    @property
    def places(self) -> Matrix:
        """Positions of the cameras in metres, shape `(N, 3)`."""
        return self.poses[:, :3, 3]

    @property
    def elevations(self) -> Matrix:
        """Degrees by which each camera looks above the horizon, shape `(N,)`."""
        degrees: Matrix = np.degrees(np.arcsin(np.clip(self.poses[:, :3, 2] @ self.up, -1, 1)))
        return degrees

    def axes(self, number: int) -> tuple[Matrix, Matrix]:
        """Horizontal unit vectors to the right and forwards of a camera."""
        forward = self.poses[number, :3, 2]
        level = forward - (forward @ self.up) * self.up
        ahead: Matrix = np.asarray(level / max(float(np.linalg.norm(level)), 1e-9), dtype=np.float64)
        right: Matrix = np.asarray(np.cross(ahead, self.up), dtype=np.float64)
        return right, ahead

    def usable(self) -> list[int]:
        """The cameras within the limits of tilt and roll."""
        rolls = np.degrees(np.arcsin(np.clip(self.poses[:, :3, 0] @ self.up, -1, 1)))
        upright = (np.abs(rolls) < ROLL) & (-self.poses[:, :3, 1] @ self.up > 0)
        return [int(at) for at in np.flatnonzero(upright & (np.abs(self.elevations) < STEEPEST))]

    def motion(self, one: int, other: int) -> Motion:
        """The motion from one camera to another."""
        right, forward = self.axes(one)
        away, ahead = self.places[other] - self.places[one], self.axes(other)[1]
        return {
            "right": round(float(away @ right), 4),
            "up": round(float(away @ self.up), 4),
            "forward": round(float(away @ forward), 4),
            "turn": round(float(np.degrees(np.arctan2(ahead @ right, ahead @ forward))), 3),
            "tilt": round(float(self.elevations[other] - self.elevations[one]), 3),
        }


def upwards(poses: Matrix) -> Matrix:
    """The direction opposite to gravity, estimated from cameras that are held level: normal to all their right axes.

    If the cameras hardly turn, it is the mean of their upward axes.

    Args:
        poses: shape `(N, 4, 4)`.
    """
    own = -poses[:, :3, 1].mean(axis=0)
    sides = poses[:, :3, 0]
    values, vectors = np.linalg.eigh(sides.T @ sides / len(sides))
    up = vectors[:, 0] * np.sign(vectors[:, 0] @ own) if values[1] > SPREAD else own
    unit: Matrix = up / max(float(np.linalg.norm(up)), 1e-9)
    return unit


def apart(one: Motion, other: Motion) -> tuple[float, float]:
    """The difference of two motions from one camera in metres and in degrees."""
    steps = [one[axis] - other[axis] for axis in ("right", "up", "forward")]
    turn = (one["turn"] - other["turn"] + 180) % 360 - 180
    return float(np.linalg.norm(steps)), float(np.hypot(turn, one["tilt"] - other["tilt"]))


def difference(metres: float, degrees: float) -> float:
    """A distance and an angle as one angle in degrees, with 60 degrees per metre."""
    return float(np.hypot(60 * metres, degrees))


def in_words(motion: Motion) -> str:
    """A motion as a sentence, rounded to `MOVE_STEP` and `TURN_STEP`.

    >>> in_words({"right": -0.31, "up": 0.02, "forward": 1.04, "turn": 13.0, "tilt": -6.0})
    'move 1.0 m forward and 0.3 m to the left, turn 15 degrees to the right, tilt 5 degrees down'
    >>> in_words({"right": 0.0, "up": 0.0, "forward": 0.0, "turn": -30.0, "tilt": 0.0})
    'turn 30 degrees to the left'
    """
    moves = [
        (motion["forward"], "forward", "backward"),
        (motion["right"], "to the right", "to the left"),
        (motion["up"], "up", "down"),
    ]
    steps = [
        f"{abs(value):.1f} m {there if value > 0 else back}" for value, there, back in moves if round(abs(value), 1)
    ]
    parts = [f"move {' and '.join(filter(None, [', '.join(steps[:-1]), steps[-1]]))}"] if steps else []
    for value, verb, there, back in (
        (motion["turn"], "turn", "to the right", "to the left"),
        (motion["tilt"], "tilt", "up", "down"),
    ):
        degrees = round(abs(value) / TURN_STEP) * TURN_STEP
        parts += [f"{verb} {degrees:.0f} degrees {there if value > 0 else back}"] if degrees else []
    return ", ".join(parts) or "stay"
