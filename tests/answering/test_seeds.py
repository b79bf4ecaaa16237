"""Seeds of sampled completions: one per puzzle, whatever else is in the batch and whichever engine samples."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jigsaw.answering.generation import GREEDY, Generation

IDS = [f"puzzle-{number}" for number in range(40)]


def seeds(ids, **changes):
    return Generation(samples=3, **changes).sampling([{"id": identity} for identity in ids], (), ()).seeds


@given(ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=20), seed=st.integers(0, 2**31), shift=st.randoms())
def test_a_puzzle_has_its_seed_in_every_batch(ids, seed, shift):
    alone = {identity: seeds([identity], seed=seed)[0] for identity in ids}
    shuffled = Random(shift.random()).sample(ids, len(ids))
    assert seeds(shuffled, seed=seed) == tuple(alone[identity] for identity in shuffled)


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_the_engine_and_the_batch_size_do_not_matter(engine):
    assert seeds(IDS, engine=engine, batch_size=3) == seeds(IDS)


def test_puzzles_and_seeds_of_the_command_give_other_seeds():
    drawn = [seed for number in range(20) for seed in seeds(IDS, seed=number)]
    assert len(set(drawn)) == len(drawn)
    assert all(0 <= seed < 2**32 for seed in drawn), "what vLLM's requests take"


def test_greedy_completions_need_no_seed():
    assert GREEDY.sampling([{"id": "a"}], (), ()).seeds == ()
