"""Calls with a time limit: each caller gets its result or error, also after a hang, a fork or an interruption."""

import gc
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jigsaw.data.loading.time_limit import within


def fail(value):
    raise KeyError(value)


@given(st.lists(st.tuples(st.booleans(), st.integers()), max_size=20))
def test_every_call_gets_its_own_result_or_error(calls):
    for fails, value in calls:
        if fails:
            with pytest.raises(KeyError, match=str(value)):
                within(10, lambda value=value: fail(value))
        else:
            assert within(10, lambda value=value: value) == value


def test_one_thread_serves_all_calls():
    assert len({within(10, threading.get_ident) for _ in range(20)}) == 1
    assert within(10, threading.get_ident) != threading.get_ident()


def test_the_late_result_of_a_call_that_hangs_is_discarded():
    never = threading.Event()
    with pytest.raises(TimeoutError, match=r"no result within 0\.05 s"):
        within(0.05, lambda: never.wait() and "late")
    assert within(10, lambda: "next") == "next"
    never.set()
    assert [within(10, lambda number=number: number) for number in range(5)] == list(range(5))


def test_after_an_interruption_the_next_call_gets_its_own_result(monkeypatch):
    go = threading.Event()

    class Interrupted:
        def get(self, timeout):
            raise KeyboardInterrupt

    within(10, lambda: None)
    from jigsaw.data.loading import time_limit

    monkeypatch.setattr(time_limit._own.helper, "_results", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        within(10, go.wait)
    go.set()
    assert within(10, lambda: "next") == "next"


def test_callers_in_several_threads_do_not_wait_for_each_other():
    both = threading.Barrier(2, timeout=10)
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(lambda _: within(10, both.wait), range(2))) == [0, 1]


def test_a_forked_process_starts_a_new_thread():
    within(10, lambda: None)
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writer, within(10, lambda: b"made"))
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 10) == b"made"
    assert os.waitpid(child, 0)[1] == 0


def test_an_idle_thread_ends_before_the_interpreter():
    code = """
import atexit, threading
atexit.register(lambda: print(sum("_carry_out" in thread.name for thread in threading.enumerate())))
from jigsaw.data.loading.time_limit import within
within(10, lambda: None)
print(sum("_carry_out" in thread.name for thread in threading.enumerate()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0"]  # the function registered first is called last


def test_a_helper_thread_ends_with_its_caller():
    def count():
        gc.collect()
        return sum("_carry_out" in thread.name for thread in threading.enumerate())

    before = count()
    caller = threading.Thread(target=lambda: within(10, lambda: None))
    caller.start()
    caller.join()
    limit = time.monotonic() + 10
    while count() > before and time.monotonic() < limit:
        time.sleep(0.01)
    assert count() <= before
