"""Fuzz the reader until it fails or the runs are done: `python -m fuzz -runs=100000`.

Arguments are libFuzzer's, for instance `-max_total_time=60` in seconds. It starts from the
collected cases; what it finds to be new it keeps in memory alone, or in a folder given as an
argument.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["harmony_kit.wire"]):
    import harmony_kit  # noqa: F401

from .check import check
from .soup import seeds, tokens_of

SIZES = [1, 2, 3, 5, 8, 1000]


def run_one(data):
    """One run of the fuzzer."""
    how = data[0] if data else 0
    check(tokens_of(data[1:]), SIZES[how // 2 % len(SIZES)], None if how % 2 else "assistant")


def main():
    """Start libFuzzer."""
    with tempfile.TemporaryDirectory(prefix="harmony-kit-fuzz-") as folder:
        for number, seed in enumerate(seeds()):
            Path(folder, f"{number:03}").write_bytes(seed)
        atheris.Setup([sys.argv[0], "-max_len=160", *sys.argv[1:], folder], run_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
