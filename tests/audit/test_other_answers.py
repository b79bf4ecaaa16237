"""Shortcuts for choices, intervals and view motion: each solves puzzles that have it and does not apply to others."""

import numpy as np
import pytest

from jigsaw.audit.choices import SHORTCUTS, ChoiceSample
from jigsaw.audit.intervals import SHORTCUTS as INTERVALS
from jigsaw.audit.intervals import IntervalSample
from jigsaw.audit.orders import SHORTCUTS as ORDERS
from jigsaw.audit.orders import OrderSample
from jigsaw.tasks import Pieces

SOLVERS = {shortcut.name: shortcut.solve for shortcut in SHORTCUTS}
COUNT = 40


def share(name, samples):
    """The share of puzzles that a shortcut solves."""
    labels = SOLVERS[name](samples)
    return np.mean([label == sample.answer for label, sample in zip(labels, samples, strict=True)])


def smooth(seed, size=48):
    """A picture whose brightness rises to the right and to the bottom."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size]
    planes = [x * rng.uniform(1, 3) + y * rng.uniform(1, 3) for _ in range(3)]
    return np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8)


def patch_sample(seed, inset=0):
    """A picture with a hole of 16 pixels and three patches: the right one and two from other places."""
    rng = np.random.default_rng(seed)
    picture = smooth(seed)
    boxes = [(16, 16), (0, 0), (32, 32)]
    order = rng.permutation(3)
    cut = [picture[y + inset : y + 16 - inset, x + inset : x + 16 - inset] for y, x in (boxes[at] for at in order)]
    shown = [patch[None] for patch in cut]
    covered = picture.copy()
    covered[16:32, 16:32] = 127
    answer = "123"[int(np.flatnonzero(order == 0)[0])]
    pieces = Pieces(frames=shown, picture=covered, hole=(16, 16, 32, 32))
    return ChoiceSample(("1", "2", "3"), answer, f"{seed}", shown, [covered], pieces=pieces)


def test_borders_of_the_hole_determine_the_patch():
    assert share("borders of the hole", [patch_sample(seed) for seed in range(COUNT)]) == 1


def test_seams_determine_the_rotated_tile():
    samples = []
    for seed in range(COUNT):
        picture, rotated = smooth(seed), seed % 4
        tiles = [picture[y : y + 24, x : x + 24] for y in (0, 24) for x in (0, 24)]
        tiles[rotated] = np.rot90(tiles[rotated], 2)
        shown = [tile[None] for tile in tiles]
        pieces = Pieces(frames=shown, grid=(2, 2))
        samples.append(ChoiceSample(("1", "2", "3", "4"), str(rotated + 1), f"{seed}", shown, [picture], pieces=pieces))
    assert share("seams", samples) > 0.9 > 0.5 > share("constant", samples)


def test_matching_borders_determine_the_relative_place_of_two_tiles():
    samples = []
    for seed in range(COUNT):
        picture, right = smooth(seed), seed % 2
        one, other = picture[:16, :16], picture[:16, 16:32] if right else picture[16:32, :16]
        samples.append(ChoiceSample(("A", "B"), "AB"[right], f"{seed}", (), [one, other]))
    assert share("two borders", samples) == 1


def test_jumps_between_frames_determine_the_shuffled_clip():
    samples = []
    for seed in range(COUNT):
        clips = [np.stack([np.full((8, 8, 3), 10 * at, dtype=np.uint8) for at in range(6)]) for _ in range(3)]
        clips[seed % 3] = clips[seed % 3][[3, 0, 4, 1, 5, 2]]
        samples.append(ChoiceSample(("1", "2", "3"), str(seed % 3 + 1), f"{seed}", clips, [clip[3] for clip in clips]))
    assert share("motion", samples) == 1


def test_a_drift_of_brightness_determines_the_direction_of_time():
    samples = []
    for seed in range(COUNT):
        clip = np.stack([np.full((8, 8, 3), 20 + 10 * at, dtype=np.uint8) for at in range(6)])
        shown = clip[::-1] if seed % 2 else clip
        samples.append(ChoiceSample(("A", "B"), "AB"[seed % 2], f"{seed}", (), [shown[3]], clips=[shown]))
    assert share("drift", samples) == 1


def test_the_height_determines_the_nearer_point():
    samples = []
    for seed in range(COUNT):
        low = seed % 2
        pieces = Pieces(points=[(10, 30 if at == low else 5) for at in range(2)], picture=smooth(seed), radius=3)
        samples.append(ChoiceSample(("1", "2"), str(low + 1), f"{seed}", (), [smooth(seed)], pieces=pieces))
    assert share("height", samples) == 1


@pytest.mark.parametrize("name", ["borders of the hole", "seams", "two borders", "motion", "drift", "height"])
def test_a_shortcut_does_not_apply_to_puzzles_without_its_features(name):
    samples = [ChoiceSample(("A", "B"), "AB"[seed % 2], f"{seed}", (), [smooth(seed)]) for seed in range(4)]
    assert SOLVERS[name](samples) is None


def test_the_two_largest_steps_determine_the_interval_between_them():
    rng = np.random.default_rng(0)
    samples = []
    for seed in range(20):
        start, end = sorted(rng.choice(range(1, 15), 2, replace=False).tolist())
        steps = [50.0 if at + 1 in (start, end) else 1.0 for at in range(15)]
        samples.append(IntervalSample([start / 2, end / 2], f"{seed}", steps, 2.0))
    intervals = next(shortcut for shortcut in INTERVALS if shortcut.name == "largest steps").solve(samples)
    assert intervals == [sample.answer for sample in samples]
    constant = next(shortcut for shortcut in INTERVALS if shortcut.name == "constant").solve(samples)
    assert constant != intervals


def test_nearness_orders_the_views_by_their_similarity_to_the_first_picture():
    """Four views with increasing differences from the first picture, and the distance of each in the prompt."""
    solve = {shortcut.name: shortcut.solve for shortcut in ORDERS}["nearness"]
    rng, samples = np.random.default_rng(0), []
    for number in range(5):
        first = smooth(number).astype(int)
        shown, reach = rng.permutation(4), rng.permutation(4)
        views = [(first + 20 * (step + 1)).clip(0, 255).astype(np.uint8)[None] for step in shown]
        answer = [int(np.flatnonzero(shown == step)[0]) + 1 for step in reach]
        pieces = Pieces(frames=views, picture=first.astype(np.uint8), reach=[30.0 * (step + 1) for step in reach])
        samples.append(OrderSample(answer, f"{number}", pieces))
    assert solve(samples) == [sample.answer for sample in samples]
    assert solve([OrderSample([1, 2], "a", Pieces(frames=[np.zeros((1, 4, 4, 3), np.uint8)] * 2))]) is None
