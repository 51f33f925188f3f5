"""Timing in tests: what must be linear, on a machine that does other things as well."""

import time


def best_time(function, rounds=5):
    """The shortest of some runs, in seconds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def assert_linear(measure, small, large, *, slack=0.02):
    """Ten times the input takes about ten times as long; quadratic work would take a hundred.

    What else the machine does can only make a run slower, so that one good run is enough: of
    five attempts one has to be below thirty times.
    """
    assert large == 10 * small
    measure(small // 10)
    for _ in range(5):
        times = measure(small), measure(large)
        if times[1] < 30 * times[0] + slack:
            return
    raise AssertionError(f"{small} took {times[0]:.4f} s, {large} took {times[1]:.4f} s")
