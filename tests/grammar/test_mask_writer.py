"""Masks that are written together equal those of each matcher alone."""

from __future__ import annotations

import random

import pytest
from constrained_requests import constraint_of
from walks import pick

from harmony_kit.grammar import Matcher
from harmony_kit.grammar._matching import MaskWriter, mask_size

VOCABULARY = 201088


@pytest.mark.parametrize("threads", [None, 3])
@pytest.mark.parametrize("vocabulary_size", [VOCABULARY, 200_100])
def test_written_together_they_are_what_each_gives(
    threads: int | None, vocabulary_size: int
) -> None:
    """At every position: free, near the limit, and finished."""
    writer = MaskWriter(threads)
    size = mask_size(vocabulary_size)
    chance = random.Random(1)
    matchers = [
        Matcher(constraint_of(number).lark, 70 + number, vocabulary_size=vocabulary_size)
        for number in range(10)
    ]
    forced = 0
    for _ in range(81):
        masks = bytearray(b"\xff" * (size * len(matchers)))
        writer.write(matchers, masks)
        for row, matcher in enumerate(matchers):
            mask = matcher.bitmask()
            assert masks[row * size : (row + 1) * size] == mask
            forced += matcher.is_forced and not matcher.is_finished
            if not matcher.is_finished:
                assert matcher.accept_token(pick(mask, chance, 0.0))
    assert all(matcher.is_finished for matcher in matchers)
    assert forced


@pytest.mark.parametrize("size", [0, 1, mask_size(VOCABULARY) - 1, mask_size(VOCABULARY) + 4])
def test_memory_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        MaskWriter().write([Matcher(constraint_of(0).lark)], bytearray(size))


def test_memory_that_cannot_be_written_is_refused() -> None:
    masks = memoryview(bytes(mask_size(VOCABULARY)))
    with pytest.raises(ValueError, match="do not fit"):
        MaskWriter().write([Matcher(constraint_of(0).lark)], masks)


def test_no_matchers_write_nothing() -> None:
    MaskWriter().write([], bytearray())
