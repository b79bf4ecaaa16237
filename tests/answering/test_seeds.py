"""Seeds of sampled completions: each puzzle has its own seed, whatever the batch and the engine."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jigsaw.answering.generation import GREEDY, Generation

IDS = [f"puzzle-{number}" for number in range(40)]


def seeds(ids, **changes):
    return Generation(samples=3, **changes).sampling([{"id": identity} for identity in ids], (), ()).seeds


@given(ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=20), seed=st.integers(0, 2**31), shift=st.randoms())
def test_a_puzzle_has_the_same_seed_in_every_batch(ids, seed, shift):
    single = {identity: seeds([identity], seed=seed)[0] for identity in ids}
    shuffled = Random(shift.random()).sample(ids, len(ids))
    assert seeds(shuffled, seed=seed) == tuple(single[identity] for identity in shuffled)


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_the_seeds_do_not_depend_on_the_engine_and_the_batch_size(engine):
    assert seeds(IDS, engine=engine, batch_size=3) == seeds(IDS)


def test_different_puzzles_and_base_seeds_have_different_seeds():
    all_seeds = [seed for number in range(20) for seed in seeds(IDS, seed=number)]
    assert len(set(all_seeds)) == len(all_seeds)
    assert all(0 <= seed < 2**32 for seed in all_seeds), "the range of seeds in vLLM's requests"


def test_greedy_completions_need_no_seed():
    assert GREEDY.sampling([{"id": "a"}], (), ()).seeds == ()
