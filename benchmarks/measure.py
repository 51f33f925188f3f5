"""Timing two things beside each other."""

import statistics
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """Medians in seconds of ours and of the reference, taken in alternation.

    `bar` is the least ratio, reference to ours, that is asked for.
    """

    name: str
    ours: float
    theirs: float
    bar: float | None = None

    @property
    def ratio(self):
        return self.theirs / self.ours


def compare(name, ours, theirs, *, bar=None, rounds=15, fresh=lambda: None):
    """Time two functions in alternation, each given what `fresh` makes for its round."""
    times = ([], [])
    for _ in range(rounds):
        for function, results in zip((ours, theirs), times, strict=True):
            argument = fresh()
            start = time.perf_counter()
            function(argument)
            results.append(time.perf_counter() - start)
    return Comparison(name, *map(statistics.median, times), bar)


def median_time(function, rounds=5):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
