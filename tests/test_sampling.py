"""`SamplingParams`: a frozen value that is checked when it is made."""

import math
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from decimal import Decimal

import pytest

import harmony_kit as hk
from harmony_kit.wire._vocabulary import CALL, RETURN, SIZE


class Integer:
    """As numpy's integers are: no `int`, but exact."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


class Real:
    """As numpy's floats of other sizes are: no `float`, but a number."""

    def __init__(self, value):
        self.value = value

    def __float__(self):
        return self.value


def test_sampling_params_are_a_frozen_value():
    made = hk.SamplingParams(max_tokens=5, stop=["a"])
    assert made == hk.SamplingParams(max_tokens=5, stop="a")
    assert hash(made) == hash(hk.SamplingParams(max_tokens=5, stop="a"))
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(FrozenInstanceError):
        made.max_tokens = 6
    with pytest.raises(TypeError):
        hk.SamplingParams(5)
    assert replace(made, max_tokens=6) == hk.SamplingParams(max_tokens=6, stop="a")
    with pytest.raises(hk.errors.OptionError, match="max_tokens"):
        replace(made, max_tokens=0)


def test_what_is_not_said_is_left_to_the_engine():
    made = hk.SamplingParams()
    assert (made.stop_tokens, made.stop) == ((RETURN, CALL), ())
    assert {value for name, value in vars(made).items() if not name.startswith("stop")} == {None}


def test_a_misspelt_parameter_is_refused_with_a_suggestion():
    with pytest.raises(TypeError, match="'max_token'; did you mean 'max_tokens'"):
        hk.SamplingParams(max_token=5)


AN_ID = "from 0 to 201088"
TEXTS = "a non-empty string or an iterable of non-empty strings"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        *[
            ("max_tokens", value, "an integer of at least 1 or None")
            for value in (0, -1, "abc", 2.0, True, math.inf)
        ],
        *[
            ("temperature", value, "a finite number of at least 0 or None")
            for value in (-3, -0.1, "1", True, math.nan, math.inf, 1j, b"1")
        ],
        *[
            ("top_p", value, "a number from 0 to 1 or None")
            for value in (-0.1, -1, 1.01, "1", True, math.nan)
        ],
        *[("seed", value, "an integer or None") for value in ("7", 7.0, True)],
        *[("stop_tokens", value, AN_ID) for value in (RETURN, None, "200002", b"ab", [1.0])],
        *[("stop_tokens", value, AN_ID) for value in ([True], (SIZE,), (5, -1), {"a"})],
        *[("stop", value, TEXTS) for value in ("", ("a", ""), 5, None, b"a", ["a", 5])],
        *[
            (name, value, "a number from -2 to 2 or None")
            for name in ("frequency_penalty", "presence_penalty")
            for value in (-2.1, 3, "1", False, math.nan)
        ],
        *[
            ("logprobs", value, "an integer of at least 0 or None")
            for value in (-1, True, 1.0, "1")
        ],
        *[("constraint", value, "a Constraint or None") for value in ("root", {}, hk.constraint)],
    ],
)
def test_a_wrong_value_is_refused_when_the_params_are_made(name, value, allowed):
    with pytest.raises(hk.errors.OptionError) as caught:
        hk.SamplingParams(**{name: value})
    assert caught.value.option == name
    assert allowed in caught.value.reason
    assert f"got {value!r}" in caught.value.reason


def test_a_number_beyond_all_floats_is_refused():
    with pytest.raises(hk.errors.OptionError, match="temperature: expected a finite number"):
        hk.SamplingParams(temperature=10**400)


def test_the_item_of_an_iterator_that_is_wrong_is_named():
    with pytest.raises(hk.errors.OptionError, match=r"got \(5, 201089\)"):
        hk.SamplingParams(stop_tokens=iter([5, SIZE]))
    with pytest.raises(hk.errors.OptionError, match=r"got \('a', ''\)"):
        hk.SamplingParams(stop=iter(["a", ""]))


class Scalar:
    """As numpy's arrays without a dimension are: iterable, until they are iterated over."""

    def __iter__(self):
        raise TypeError("iteration over a 0-d array")


@pytest.mark.parametrize("name", ["stop_tokens", "stop"])
def test_what_only_seems_iterable_is_refused_by_name(name):
    with pytest.raises(hk.errors.OptionError, match=f"^{name}: expected .* got <"):
        hk.SamplingParams(**{name: Scalar()})


def test_one_stop_text_is_one_text():
    assert hk.SamplingParams(stop="</s>").stop == ("</s>",)
    assert hk.SamplingParams(stop=["a", "b"]).stop == ("a", "b")
    assert hk.SamplingParams(stop=(text for text in "ab")).stop == ("a", "b")
    assert hk.SamplingParams(stop=[]).stop == ()


def test_stop_tokens_are_a_tuple():
    assert hk.SamplingParams(stop_tokens=[0, SIZE - 1]).stop_tokens == (0, SIZE - 1)
    assert hk.SamplingParams(stop_tokens=iter([5])).stop_tokens == (5,)
    assert hk.SamplingParams(stop_tokens=frozenset({5})).stop_tokens == (5,)
    assert hk.SamplingParams(stop_tokens=()).stop_tokens == ()


@pytest.mark.parametrize("name", ["max_tokens", "seed", "logprobs"])
def test_integers_of_other_types_become_plain_ones(name):
    value = getattr(hk.SamplingParams(**{name: Integer(7)}), name)
    assert (type(value), value) == (int, 7)


@pytest.mark.parametrize("number", [1, 1.0, Real(1.0), Integer(1), Decimal(1)])
@pytest.mark.parametrize("name", ["temperature", "top_p", "frequency_penalty", "presence_penalty"])
def test_numbers_of_other_types_become_plain_ones(name, number):
    value = getattr(hk.SamplingParams(**{name: number}), name)
    assert (type(value), value) == (float, 1.0)


def test_ids_of_other_types_become_plain_ones():
    (token,) = hk.SamplingParams(stop_tokens=[Integer(7)]).stop_tokens
    assert (type(token), token) == (int, 7)


def test_the_ends_of_the_ranges_are_allowed():
    hk.SamplingParams(max_tokens=1, temperature=0, top_p=1, seed=-1, logprobs=0)
    hk.SamplingParams(frequency_penalty=-2, presence_penalty=2)


def test_a_constraint_is_kept():
    made = hk.constraint()
    assert hk.SamplingParams(constraint=made).constraint is made


def test_no_grammar_is_imported_where_none_is_asked_for():
    program = (
        "import sys, harmony_kit as hk; hk.SamplingParams(stop='a', top_p=1, stop_tokens=[5]);"
        "assert not [name for name in sys.modules if name.startswith('harmony_kit.grammar')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
