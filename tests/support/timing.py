"""Timing in tests: what must be linear, on a machine that does other things as well."""

import gc
import time

from examples import IS_THOROUGH


def best_time(function, rounds=5):
    """The shortest of some runs, in seconds of this process's work."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return best


def assert_linear(measure, small, large, *, slack=0.02):
    """Ten times the input takes about ten times as long; quadratic work would take a hundred.

    What else the machine does can only make a run slower, so that one good run is enough: of
    five attempts one has to be below thirty times.
    """
    assert large == 10 * small
    if not IS_THOROUGH:
        small, large = small // 3, small // 3 * 10
    measure(small // 10)
    gc.disable()  # else it looks again and again at what other tests have left alive
    try:
        for _ in range(5):
            times = measure(small), measure(large)
            if times[1] < 30 * times[0] + slack:
                return
    finally:
        gc.enable()
    raise AssertionError(f"{small} took {times[0]:.4f} s, {large} took {times[1]:.4f} s")
