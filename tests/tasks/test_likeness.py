"""Pieces that look the same: the quick comparison says what the plain one says."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jigsaw.tasks.media.likeness import look_alike_classes, mean_differences, peak_differences

PIECES = arrays.arrays(np.uint8, st.tuples(st.integers(2, 9), st.just(60)))


@given(PIECES)
def test_differences_equal_those_of_each_pair_of_pieces(pieces):
    for one in range(len(pieces)):
        for other in range(len(pieces)):
            apart = np.abs(pieces[one].astype(float) - pieces[other])
            assert np.isclose(mean_differences(pieces)[one, other], np.sqrt((apart**2).mean()))
            assert np.isclose(peak_differences(pieces)[one, other], apart.max())  # 2% of 60 values is one


@given(PIECES, st.floats(0, 255))
def test_every_two_pieces_of_a_class_are_alike_and_numbers_follow_first_appearance(pieces, tolerance):
    differences = mean_differences(pieces)
    classes = look_alike_classes(differences, tolerance)
    assert list(dict.fromkeys(classes)) == list(range(len(set(classes))))
    for one in range(len(pieces)):
        for other in range(one):
            if classes[one] == classes[other]:
                assert differences[one, other] < tolerance
