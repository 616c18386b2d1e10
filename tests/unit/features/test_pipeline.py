import threading
import time

import pytest

from repkit.features.pipeline import ahead


def test_order_and_end():
    assert list(ahead(range(1000), lambda n: 1, budget=7)) == list(range(1000))
    assert list(ahead([], lambda n: 1)) == []


def test_an_error_comes_out_in_its_place():
    def broken():
        yield 1
        yield 2
        raise ValueError("third")

    stream = ahead(broken(), lambda n: 1)
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(stream)


def test_ctrl_c_of_the_stage_is_handed_over():
    def interrupted():
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(ahead(interrupted(), lambda n: 1))


@pytest.mark.parametrize(("budget", "expected"), [(10, 5), (11, 5), (12, 6), (1, 1)])
def test_it_is_ahead_by_bytes(budget, expected):
    made = []

    def items():
        for n in range(100):
            made.append(n)
            yield n

    stream = ahead(items(), lambda n: 2, budget=budget)
    assert next(stream) == 0
    deadline = time.monotonic() + 5
    while len(made) < expected + 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    # the one taken, those that wait, and one made that finds no room
    assert len(made) == 1 + expected + 1
    stream.close()


def test_an_item_larger_than_the_budget_passes():
    assert list(ahead([5, 500, 5], lambda n: n, budget=10)) == [5, 500, 5]


def test_closed_early_the_stage_ends_and_is_closed():
    ended = threading.Event()

    def items():
        try:
            yield from range(10**9)
        finally:
            ended.set()

    before = threading.active_count()
    inner = ahead(items(), lambda n: 1, budget=3)
    stream = ahead((n for n in inner), lambda n: 1, budget=3)
    assert next(stream) == 0
    stream.close()
    inner.close()
    assert ended.wait(5)
    assert threading.active_count() == before
