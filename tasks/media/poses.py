"""Camera poses from files, and the motions between cameras.

In: a text file with the 4x4 camera-to-world matrix of a frame (metres; the camera looks along z, x is to the right and
y down, as in ScanNet, TUM and OpenCV), and a file with the focal lengths. Out: matrices, and motions in words. A lost
frame, whose pose ScanNet writes as -inf, has no pose; any other matrix that is no rotation and translation is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

Matrix = np.ndarray[Any, np.dtype[np.float64]]

ROTATION_ERROR = 1e-2
"""Largest entry of `R @ R.T - I` of a rotation that was rounded when it was written."""

STEEPEST, ROLL = 70.0, 25.0
"""Degrees: a camera that looks further up or down, or is turned further about its axis, has no forward in a room."""

SPREAD = 0.02
"""Least second eigenvalue of the cameras' right axes from which "up" follows: they turned by about 16 degrees."""

MOVE_STEP, TURN_STEP = 0.1, 5.0
"""Metres and degrees to which motions are rounded in words."""


class PoseError(ValueError):
    """A pose or a file of intrinsics cannot be used; the message says why."""


class Motion(TypedDict):
    """How a camera moved, seen from where it was: metres to the right, upwards and forwards; degrees.

    Attributes:
        right, up, forward: metres, in the level frame of the first camera.
        turn: degrees about the vertical, to the right.
        tilt: degrees upwards.
    """

    right: float
    up: float
    forward: float
    turn: float
    tilt: float


STILL: Motion = {"right": 0.0, "up": 0.0, "forward": 0.0, "turn": 0.0, "tilt": 0.0}
"""No motion: `apart(motion, STILL)` is how large a motion is."""


def read_pose(file: Path | bytes) -> Matrix | None:
    """A camera-to-world matrix, shape `(4, 4)`; None of a lost frame, all of whose pose is infinite or NaN.

    Raises:
        PoseError: the file holds anything else.
        OSError: it cannot be read.
    """
    pose = _numbers(file, (4,))
    known = np.isfinite(pose[:3])
    if not known.any():
        return None
    if not known.all() or not np.isfinite(pose[3]).all():
        raise PoseError("some of its numbers are infinite or NaN; a lost frame has no finite one in three rows")
    if not np.allclose(pose[3], (0, 0, 0, 1), atol=1e-6):
        raise PoseError(f"its last row is {_row(pose[3])}, not 0 0 0 1")
    turn = pose[:3, :3]
    if np.abs(turn @ turn.T - np.eye(3)).max() > ROTATION_ERROR:
        raise PoseError("its upper left 3x3 numbers are no rotation: the rows are not of length 1 and at right angles")
    if np.linalg.det(turn) < 0:
        raise PoseError("its upper left 3x3 numbers mirror the scene (determinant -1); they have to be a rotation")
    return pose


def read_intrinsics(file: Path | bytes) -> tuple[float, float, float, float]:
    """Focal lengths and principal point in pixels of the picture: `fx, fy, cx, cy`.

    The file is a 3x3 or 4x4 matrix as text, or a JSON object with `focal_length_px` and `principal_point_px`.

    Raises:
        PoseError: it holds anything else.
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
        raise PoseError(f"its focal lengths and principal point {_row(values)} cannot be")
    return values


def _text(file: Path | bytes) -> str:
    data = file if isinstance(file, bytes) else file.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PoseError("it is no text") from error


def _numbers(file: Path | bytes, sides: Sequence[int]) -> Matrix:
    """A square matrix of one of these sides out of a text file."""
    rows = [line.replace(",", " ").split() for line in _text(file).splitlines() if line.strip()]
    if len(rows) not in sides or any(len(row) != len(rows) for row in rows):
        shape = f"{len(rows)} rows of {' or '.join(sorted({str(len(row)) for row in rows}))}" if rows else "no"
        raise PoseError(f"it holds {shape} numbers, not {' or '.join(f'{side}x{side}' for side in sides)}")
    try:
        return np.array([[float(word) for word in row] for row in rows])
    except ValueError as error:
        raise PoseError(str(error)) from error


def _row(values: Sequence[float] | Matrix) -> str:
    return " ".join(f"{value:g}" for value in values)


@dataclass(frozen=True)
class Cameras:
    """Cameras of a scene, level.

    Attributes:
        poses: camera-to-world matrices, shape `(N, 4, 4)`.
        up: unit vector against gravity, shape `(3,)`.
    """

    poses: Matrix
    up: Matrix

    @property
    def places(self) -> Matrix:
        """Where the cameras are, in metres, shape `(N, 3)`."""
        found: Matrix = self.poses[:, :3, 3]
        return found

    @property
    def elevations(self) -> Matrix:
        """Degrees by which each camera looks above the horizon, shape `(N,)`."""
        found: Matrix = np.degrees(np.arcsin(np.clip(self.poses[:, :3, 2] @ self.up, -1, 1)))
        return found

    def axes(self, number: int) -> tuple[Matrix, Matrix]:
        """Level unit vectors to the right and forwards of a camera."""
        forward = self.poses[number, :3, 2]
        level = forward - (forward @ self.up) * self.up
        ahead: Matrix = np.asarray(level / max(float(np.linalg.norm(level)), 1e-9), dtype=np.float64)
        right: Matrix = np.asarray(np.cross(ahead, self.up), dtype=np.float64)
        return right, ahead

    def usable(self) -> list[int]:
        """The cameras that neither look steeply up or down nor are tilted sideways."""
        rolls = np.degrees(np.arcsin(np.clip(self.poses[:, :3, 0] @ self.up, -1, 1)))
        upright = (np.abs(rolls) < ROLL) & (-self.poses[:, :3, 1] @ self.up > 0)
        return [int(at) for at in np.flatnonzero(upright & (np.abs(self.elevations) < STEEPEST))]

    def motion(self, one: int, other: int) -> Motion:
        """The motion that leads from one camera to another."""
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
    """The direction against gravity, from cameras that are held level: at right angles to all of their right axes.

    Cameras that hardly turn do not tell it; then it is the mean of their own upward axes.

    Args:
        poses: shape `(N, 4, 4)`.
    """
    own = -poses[:, :3, 1].mean(axis=0)
    sides = poses[:, :3, 0]
    values, vectors = np.linalg.eigh(sides.T @ sides / len(sides))
    up = vectors[:, 0] * np.sign(vectors[:, 0] @ own) if values[1] > SPREAD else own
    found: Matrix = up / max(float(np.linalg.norm(up)), 1e-9)
    return found


def apart(one: Motion, other: Motion) -> tuple[float, float]:
    """By how many metres and by how many degrees two motions from one camera differ."""
    steps = [one[axis] - other[axis] for axis in ("right", "up", "forward")]
    turn = (one["turn"] - other["turn"] + 180) % 360 - 180
    return float(np.linalg.norm(steps)), float(np.hypot(turn, one["tilt"] - other["tilt"]))


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
