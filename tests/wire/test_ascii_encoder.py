"""The encoder of a process's first texts: tiktoken's tokens, and no others."""

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmony_kit.wire import _vocabulary as v
from harmony_kit.wire._ascii_encoder import LONGEST_PIECE, AsciiEncoder

PIECES = ["'s", "'RE", "'lL", "the", " The", "HTTPServer", "123", "\r\n", "\n", "  ", "\t", "\x1c"]
PIECES += ["...", "//", "{}", '"a":', "_", "don't", "I'D", "\x0b", "\x7f", "\x00", "=" * 20]


@pytest.fixture(scope="module")
def tiktoken_encode():
    return v.tiktoken_encoder()


@pytest.fixture(scope="module")
def ranks():
    return {v.token_bytes(token): token for token in range(v.FIRST_SPECIAL)}


@given(
    st.text(st.characters(max_codepoint=127))
    | st.lists(st.sampled_from(PIECES) | st.text(st.characters(max_codepoint=127), max_size=3)).map(
        "".join
    )
)
def test_it_gives_the_tokens_of_tiktoken(ranks, tiktoken_encode, text):
    tokens = AsciiEncoder(ranks, len(text)).encode(text)
    if tokens is None:
        assert len(text) > LONGEST_PIECE
    else:
        assert tokens == tiktoken_encode(text)


def test_it_gives_the_tokens_of_tiktoken_for_words_that_are_none(ranks, tiktoken_encode):
    source = random.Random(4)
    encoder = AsciiEncoder(ranks, 10**9)
    for letters in ("ab", "aeinst", string.ascii_letters, string.ascii_lowercase, "=-_#"):
        for _ in range(300):
            word = "".join(source.choices(letters, k=source.randint(1, LONGEST_PIECE)))
            assert encoder.encode(word) == tiktoken_encode(word), word


def test_it_leaves_to_others_what_it_cannot_do_or_does_slowly(ranks):
    encoder = AsciiEncoder(ranks, 200)
    assert encoder.encode("é") is None
    assert encoder.encode("a" * (LONGEST_PIECE + 1)) is None
    assert encoder.encode("a b " * 50) is not None
    assert encoder.encode("a") is None  # its 200 characters are used up
    assert encoder.encode("") == []
