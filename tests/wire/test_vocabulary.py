"""The vocabulary: the same tokens as the reference, in linear time, without a download."""

import hashlib
import pickle
import subprocess
import sys
import textwrap
import time
from itertools import product
from pathlib import Path

import pytest
import tiktoken
from examples import examples
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import stable_repr

from harmony_kit.errors import HarmonyError, InvalidMessageError, UnknownTokenError
from harmony_kit.wire import _vocabulary as v

ROOT = Path(__file__).parents[2]
BLANKS = "\t\v\f \x85\xa0\u1680\u2000\u2007\u200a\u2028\u2029\u202f\u205f\u3000"

# --- Texts ----------------------------------------------------------------------------------

# What the pattern treats in ways of its own: contractions (with the letters that fold to
# those of ASCII: U+017F and U+212A), marks, digits of all kinds, blanks, newlines, and the
# spellings of special tokens.
FRAGMENTS = [
    *("'s", "'S", "'\u017f", "'t", "'re", "'RE", "'Ve", "'m", "'ll", "'lL", "'d", "\u2019s"),
    *("a", "A", "\u01c5", "\u0130", "\u0131", "\u212a", "\u02b0", "\u00aa", "\u0301", "\u093e"),
    *("1", "\u0661", "\u00bd", "\u2167", "\uff11", "12", "123", "1234"),
    *("\r", "\n", "\r\n", "\x1c", "\x1f", "\u200b", "\ufeff", "\u180e", *BLANKS),
    *("/", ".", "//", "...", "_", "$", "\u00b4", "\u3001", "\U0001f642", "\u200d", "\ufe0f"),
    *("\u6f22", "\u304b", "\u1112\u1161\u11ab", "\ud55c", "\u05d0", "\u0627", "\u0e01\u0e34"),
    *("the", " The", "HTTPServer", "x" * 40, "=" * 40, " " * 40, "\n" * 9),
    *("<|start|>", "<|end|>", "<|", "|>", "<|endofprompt|>", "<|reserved_200013|>", "start"),
]
characters = st.characters(exclude_categories=["Cs"])
texts = st.text(characters) | st.lists(
    st.sampled_from(FRAGMENTS) | st.text(characters, max_size=3)
).map("".join)


# --- Tokens and their bytes -----------------------------------------------------------------


def test_the_exported_form_is_the_published_file():
    digest = hashlib.sha256(v.export_tiktoken()).hexdigest()
    assert digest == "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"


def test_the_table_of_special_tokens():
    assert v.SIZE == 201089
    assert list(v.SPECIAL_TOKENS.values()) == list(range(199998, 201089))
    assert len(v.SPECIAL_TOKENS) == len(v.SPECIAL_TOKEN_NAMES) == 1091
    assert {k: t for k, t in v.SPECIAL_TOKENS.items() if "reserved" not in k} == {
        "<|startoftext|>": v.START_OF_TEXT,
        "<|endoftext|>": v.END_OF_TEXT,
        "<|return|>": v.RETURN,
        "<|constrain|>": v.CONSTRAIN,
        "<|channel|>": v.CHANNEL,
        "<|start|>": v.START,
        "<|end|>": v.END,
        "<|message|>": v.MESSAGE,
        "<|call|>": v.CALL,
    }
    named = (199998, 199999, 200002, 200003, 200005, 200006, 200007, 200008, 200012)
    assert frozenset(named) == v.NAMED_SPECIAL_TOKENS
    for name, token in v.SPECIAL_TOKENS.items():
        assert v.SPECIAL_TOKEN_NAMES[token] == name
        assert token in named or name == f"<|reserved_{token}|>"
    assert "<|endofprompt|>" not in v.SPECIAL_TOKENS
    assert {v.RETURN, v.END, v.CALL} == v.TERMINATORS
    assert {v.RETURN, v.CALL} == v.STOP_TOKENS


def test_special_tokens_are_those_of_the_reference(openai_harmony_encoding):
    assert set(v.SPECIAL_TOKENS) == openai_harmony_encoding.special_tokens_set
    for token in range(v.FIRST_SPECIAL - 2, v.SIZE):
        assert openai_harmony_encoding.is_special_token(token) == (token in v.SPECIAL_TOKEN_NAMES)
    assert set(openai_harmony_encoding.stop_tokens()) == v.TERMINATORS
    assert set(openai_harmony_encoding.stop_tokens_for_assistant_actions()) == v.STOP_TOKENS


def test_every_token_has_the_bytes_of_the_reference(openai_harmony_encoding):
    def of_reference(token):
        return bytes(openai_harmony_encoding._inner.decode_bytes([token]))

    for token in range(v.SIZE):
        assert v.token_bytes(token) == of_reference(token), token
    everything = range(v.SIZE)
    assert v.decode_bytes(everything) == b"".join(map(v.token_bytes, everything))


def test_the_table_has_the_ordinary_tokens_alone():
    table = v.ordinary_token_table()
    assert all(table[: v.FIRST_SPECIAL])
    assert not any(table[v.FIRST_SPECIAL :])
    assert not any(table[-v.SIZE :])
    assert table[v.START :][:1] == (b"",)


def test_tokens_decode_together():
    halves = v.encode("\U0001fae0")
    assert len(halves) > 1
    assert v.decode(halves) == "\U0001fae0"
    assert v.decode(halves[:1]) == "\ufffd"
    assert v.decode(halves[:1], errors="ignore") == ""
    with pytest.raises(UnicodeDecodeError):
        v.decode(halves[:1], errors="strict")
    assert v.decode([v.START, *v.encode("user"), v.MESSAGE, 200013]) == (
        "<|start|>user<|message|><|reserved_200013|>"
    )
    assert v.decode([]) == ""


NO_TOKENS = [
    *(v.SIZE, v.SIZE + 1, 2 * v.SIZE - 1, 2 * v.SIZE, 2**31, 2**64, 10**40),
    *(-1, -v.FIRST_SPECIAL, -v.SIZE, -202180, -202181, -2 * v.SIZE, -2 * v.SIZE - 1, -(10**40)),
    *(None, "a", b"a", 1.0, float("nan"), 200006.0, (), [1], {}, slice(0, 1), object()),
]


@pytest.mark.parametrize("value", NO_TOKENS, ids=stable_repr)
def test_what_is_no_token_is_refused_with_its_position(value):
    with pytest.raises(UnknownTokenError, match=r"^token 2: .* is not a token id") as caught:
        v.decode_bytes([v.START, 24912, value, 24912])
    assert caught.value.position == 2
    assert caught.value.token is value
    with pytest.raises(UnknownTokenError):
        v.decode([value])
    with pytest.raises(UnknownTokenError):
        v.token_bytes(value)


def test_the_error_can_be_pickled():
    error = pickle.loads(pickle.dumps(UnknownTokenError(-1, 3)))
    assert (error.token, error.position) == (-1, 3)


@given(st.lists(st.integers(-3 * v.SIZE, 3 * v.SIZE) | st.integers()))
def test_only_token_ids_decode(tokens):
    unknown = [i for i, token in enumerate(tokens) if not 0 <= token < v.SIZE]
    if not unknown:
        assert v.decode_bytes(tokens) == b"".join(map(v.token_bytes, tokens))
        return
    with pytest.raises(UnknownTokenError) as caught:
        v.decode_bytes(tokens)
    assert caught.value.position == unknown[0]


# --- Text to tokens -------------------------------------------------------------------------


@given(texts)
@example("a'\u017f'Ta")
@example("\u1ad3's")
@example("<|start|>system<|message|>")
def test_encoding_is_that_of_the_reference(openai_harmony_encoding, text):
    assert v.encode(text) == openai_harmony_encoding.encode(text, disallowed_special=())


def test_encoding_is_that_of_the_reference_on_every_character(openai_harmony_encoding):
    # Beyond these every character is unassigned or private; some of them will do.
    assigned = (range(0xD800), range(0xE000, 0x34000), range(0xE0000, 0xE0200))
    codes = [code for part in (*assigned, range(0x34000, 0x110000, 257)) for code in part]
    for start in range(0, len(codes), 256):
        # What kind of character it is shows in where it parts from its neighbours.
        lines = ("{0}'s A{0}a 'll{0}\n".format(chr(code)) for code in codes[start : start + 256])
        text = "".join(lines)
        reference = openai_harmony_encoding.encode(text, disallowed_special=())
        assert v.encode(text) == reference, f"from U+{codes[start]:04X}"


@given(texts)
def test_decoding_undoes_encoding(text):
    tokens = v.encode(text)
    assert v.decode(tokens, errors="strict") == text
    assert all(0 <= token < v.FIRST_SPECIAL for token in tokens)


def test_spelt_out_special_tokens_stay_text():
    for name in v.SPECIAL_TOKENS:
        assert not v.SPECIAL_TOKEN_NAMES.keys() & set(v.encode(name))


@pytest.mark.parametrize("encode", [v.encode, v.encode_with_special])
@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("\ud800", 0),
        ("abc\udfff", 3),
        ("\U0001f642\ud83d\ude42", 1),
        ("<|start|>a\ud800<|end|>", 10),
        ("<|start|>\u6f22" * 3 + "\udc00\udc00", 30),
        ("a  b \t  c\ud800", 9),
    ],
    ids=ascii,
)
def test_a_lone_surrogate_is_refused_with_its_position(encode, text, position):
    with pytest.raises(InvalidMessageError, match=f"surrogate .* at character {position}$"):
        encode(text)


# --- Special tokens in text -----------------------------------------------------------------


def test_special_tokens_in_text_are_encoded_where_asked():
    text = "<|start|>user<|message|>Hi<|end|>"
    user, hi = v.encode("user"), v.encode("Hi")
    assert v.encode_with_special(text) == [v.START, *user, v.MESSAGE, *hi, v.END]
    end_alone = v.encode_with_special(text, allowed={"<|end|>"})
    assert end_alone == [*v.encode("<|start|>user<|message|>Hi"), v.END]
    assert v.encode_with_special(text, allowed=()) == v.encode(text)
    assert v.encode_with_special("<|reserved_200013|>") == [200013]
    assert v.encode_with_special("") == []


@pytest.mark.parametrize("text", ["<|endofprompt|>", "<|START|>", "<|start>", "< |start|>", "<||>"])
def test_what_only_resembles_a_special_token_stays_text(text):
    assert v.encode_with_special(text) == v.encode(text)


@pytest.mark.parametrize("before", ["", "<", "<|", "<|x", "<|x|>"])
@pytest.mark.parametrize("after", ["", ">", "|>", "x|>"])
def test_special_tokens_are_found_amid_their_like(openai_harmony_encoding, before, after):
    text = f"{before}<|start|>{after}"
    tokens = v.encode_with_special(text)
    assert tokens.count(v.START) == 1
    assert tokens == openai_harmony_encoding.encode(text, allowed_special="all")


@given(
    st.lists(st.sampled_from([*FRAGMENTS, "<|call|>", "<|return|>", "<|channel|>"])).map("".join),
    st.sets(st.sampled_from(["<|start|>", "<|end|>", "<|call|>"])),
)
def test_special_tokens_are_those_of_the_reference_in_text(openai_harmony_encoding, text, allowed):
    assert v.encode_with_special(text) == openai_harmony_encoding.encode(
        text, allowed_special="all"
    )
    assert v.encode_with_special(text, allowed) == openai_harmony_encoding.encode(
        text, allowed_special=allowed, disallowed_special=()
    )


# --- Law 9: linear --------------------------------------------------------------------------

RUNS = {
    "spaces": " ",
    "tabs": "\t",
    "letters": "a",
    "newlines": "\n",
    "full stops": ".",
    "accented letters": "\u00e9",
    "Chinese": "\u6f22",
    "ideographic spaces": "\u3000",
    "mixed blanks": " \t\u3000",
    "blank lines": "   \n",
    "indented lines": "    a\n",
    "words wide apart": "a \t",
    "special": "<|start|>",
    "broken special": "<|",
    "mixed": "The quick brown fox, \u6f22\u5b57 1234...\n\n   don't!",
}


def best_times(*actions, repeat=4):
    """The shortest time of each action; they take turns, so that all meet the same machine."""
    best = [float("inf")] * len(actions)
    for _ in range(repeat):
        for i, action in enumerate(actions):
            start = time.process_time()
            action()
            best[i] = min(best[i], time.process_time() - start)
    return best


@pytest.mark.parametrize("unit", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("encode", [v.encode, v.encode_with_special])
def test_encoding_is_linear(encode, unit):
    text = (unit * 20_000)[:20_000]
    long_text = text * 10
    encode(text)
    ten_short, one_long = best_times(
        lambda: [encode(text) for _ in range(10)],
        lambda: encode(long_text),
    )
    # Byte pairs are merged in n log n, out of the cache; in quadratic time this would be 10.
    assert one_long / ten_short < 4


@pytest.mark.parametrize(
    ("unit", "before", "after"),
    [(" ", "", ""), (" ", "a\n", "\n a"), ("\t", "\n", "."), (" \t\u3000", "a", "a")],
    ids=["spaces", "spaces between words", "tabs", "mixed blanks"],
)
def test_two_million_blanks_do_not_stop_anything(unit, before, after):
    text = before + (unit * 2_000_000)[:2_000_000] + after
    assert v.decode(v.encode(text)) == text


# --- Runs of blanks -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole():
    """tiktoken itself, with the vocabulary's pattern, on uncut text."""
    return tiktoken.Encoding(
        "whole", pat_str=v._PATTERN, mergeable_ranks=v._rank_table(), special_tokens={}
    ).encode_ordinary


@pytest.fixture(scope="module")
def cutting():
    return v.tiktoken_encoder()


blanks = st.sampled_from([" ", " ", "\t", "\u3000", "\x85", "\u2028", *BLANKS])
runs_of_blanks = (
    st.integers(1, 130).map(" ".__mul__)
    | st.integers(1, 130).map("\t".__mul__)
    | st.text(blanks, min_size=1, max_size=12)
)
# What the pattern joins with blanks before it, and what only looks blank: U+001C to U+001F are
# whitespace to Python alone, U+200B and U+180E to nobody.
AROUND_BLANKS = [
    *("\n", "\r", "\r\n", "\n\n", "!\n", "!\n/", "/", "//", ".", "...", "\x1c", "\x1f"),
    *("a", "A", "The", "1", "1234", "'s", "\u0301", "\u6f22", "\U0001f642", "\u200b", "\u180e"),
]


@given(
    st.lists(
        runs_of_blanks | st.sampled_from(AROUND_BLANKS) | st.sampled_from(FRAGMENTS) | texts,
        max_size=16,
    ).map("".join)
)
@examples(300)
def test_cutting_out_runs_of_blanks_is_exact(cutting, whole, text):
    assert cutting(text) == whole(text)


def test_cutting_out_blanks_is_exact_on_every_short_text(cutting, whole):
    for characters in (" \t\x85\n\u200b\x1ca.", " \u3000\n\r/a.", " \v\u0301'sA1"):
        for length in range(6):
            for pieces in product(characters, repeat=length):
                text = "".join(pieces)
                assert cutting(text) == whole(text), text


def test_cutting_out_blanks_is_exact_on_sources(cutting, whole):
    for path in sorted(ROOT.glob("harmony_kit/**/*.py")) + sorted(ROOT.glob("docs/*.md")):
        source = path.read_text()
        assert cutting(source) == whole(source), path
        with_tabs = source.replace("    ", "\t").replace("\n", "\r\n")
        assert cutting(with_tabs) == whole(with_tabs), path


def test_every_blank_of_unicode_is_known():
    # Those of Python are the members of White_Space and four of ASCII's control characters.
    spaces = {chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()}
    assert spaces - {*"\x1c\x1d\x1e\x1f"} == {*" \r\n", *v._OTHER_BLANKS}
    assert not any(map(str.isprintable, v._OTHER_BLANKS))


# --- Encoders -------------------------------------------------------------------------------


@pytest.fixture
def encoder_restored():
    yield
    v.use_encoder("tiktoken")


@pytest.mark.usefixtures("encoder_restored")
def test_the_encoder_can_be_replaced():
    v.use_encoder(lambda text: [len(text)])
    assert v.encode("abc") == [3]
    with pytest.raises(InvalidMessageError):
        v.encode("\ud800")  # whatever the encoder, it never sees one
    v.use_encoder("tiktoken")
    assert v.decode(v.encode("abc")) == "abc"


def test_tiktoken_takes_over_after_the_first_short_texts():
    texts = ["Hello, world!", "x" * 100, "\u6f22\u5b57", " word" * 2000, "Hello, world!"]
    for text in texts:
        slot = v._EncoderSlot()
        assert slot.get()("Hello") == v.tiktoken_encoder()("Hello")
        assert slot.get()(text) == v.tiktoken_encoder()(text)
    slot = v._EncoderSlot()
    first = slot.get()
    assert [slot.get()(text) for text in texts] == [v.tiktoken_encoder()(t) for t in texts]
    assert slot.get() is not first
    assert first("Hello") == slot.get()("Hello")


def test_a_short_ascii_text_does_not_import_tiktoken():
    run_python(
        """
        import sys
        import harmony_kit as hk
        assert hk.encode("Hello, world!") == [13225, 11, 2375, 0]
        assert "tiktoken" not in sys.modules
        assert hk.decode(hk.encode("\u6f22")) == "\u6f22"
        assert "tiktoken" in sys.modules
        """
    )


def test_an_unknown_encoder_is_refused():
    with pytest.raises(HarmonyError, match=r"unknown encoder 'other'; expected 'tiktoken'"):
        v.use_encoder("other")


# --- A process of its own -------------------------------------------------------------------


def run_python(source):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def test_nothing_touches_the_network(tmp_path):
    assert "done" in run_python(
        f"""
        import os, socket

        def refuse(*args, **kwargs):
            raise AssertionError("the network was touched")

        socket.socket = socket.create_connection = socket.getaddrinfo = refuse
        os.environ["TIKTOKEN_CACHE_DIR"] = os.environ["DATA_GYM_CACHE_DIR"] = {str(tmp_path)!r}
        from harmony_kit.wire import _vocabulary as v

        v.encode_with_special("<|start|>" + v.decode(v.encode("a text")))
        v.export_tiktoken()
        print("done")
        """
    )
    assert not any(tmp_path.iterdir())


def test_importing_loads_nothing_heavy():
    loaded = run_python("import harmony_kit, sys; print(*sys.modules)").split()
    assert "harmony_kit" in loaded
    assert not {"pydantic", "numpy", "tiktoken", "splintr", "docstring_parser"} & {*loaded}


def test_decoding_needs_no_encoder():
    loaded = run_python(
        """
        import sys
        from harmony_kit.wire import _vocabulary as v
        v.decode(range(1000))
        print(*sys.modules)
        """
    ).split()
    assert "tiktoken" not in loaded
