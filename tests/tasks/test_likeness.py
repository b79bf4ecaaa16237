"""Detection of identical pieces: the vectorised comparison equals the comparison of each pair."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jigsaw.tasks.media.likeness import look_alike_classes, mean_differences, peak_differences

PIECES = arrays.arrays(np.uint8, st.tuples(st.integers(2, 9), st.just(60)))


@given(PIECES)
def test_the_vectorised_differences_equal_those_of_each_pair_of_pieces(pieces):
    for one in range(len(pieces)):
        for other in range(len(pieces)):
            difference = np.abs(pieces[one].astype(float) - pieces[other])
            assert np.isclose(mean_differences(pieces)[one, other], np.sqrt((difference**2).mean()))
            assert np.isclose(peak_differences(pieces)[one, other], difference.max())  # 2% of 60 values is one


@given(PIECES, st.floats(0, 255))
def test_pieces_of_a_class_differ_by_less_than_the_tolerance_and_classes_are_numbered_in_order(pieces, tolerance):
    differences = mean_differences(pieces)
    classes = look_alike_classes(differences, tolerance)
    assert list(dict.fromkeys(classes)) == list(range(len(set(classes))))
    for one in range(len(pieces)):
        for other in range(one):
            if classes[one] == classes[other]:
                assert differences[one, other] < tolerance
