"""Arguments reach a function as its annotations declare them."""

# The older spellings of types are tested too.
# ruff: noqa: UP007, UP045

import collections
import contextlib
import dataclasses
import datetime
import decimal
import enum
import functools
import inspect
import os
import pathlib
import typing
import uuid
from collections import abc
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union

import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from strategies import stable_repr

from harmony_kit.errors import ToolArgumentsError
from harmony_kit.tools._conversion import ArgumentConverter
from harmony_kit.tools._function import tool_from_function


class Unit(enum.Enum):
    CELSIUS = "c"
    FAHRENHEIT = "f"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Permission(enum.Flag):
    READ = 1
    WRITE = 2


class Name(str):
    __slots__ = ()


class Moment(datetime.datetime):
    pass


class Pause(datetime.timedelta):
    pass


class Movie(TypedDict):
    title: str
    seen: typing.NotRequired[datetime.date]


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0
    unit: Unit = Unit.CELSIUS


@dataclasses.dataclass(frozen=True)
class Even:
    number: int

    def __post_init__(self):
        if self.number % 2:
            raise ValueError("it is odd")


@dataclasses.dataclass
class Node:
    name: str
    children: list["Node"] = dataclasses.field(default_factory=list)


class Pair(NamedTuple):
    left: Unit
    right: "uuid.UUID | None" = None


UserId = NewType("UserId", int)
Number = TypeVar("Number", int, float)
Scores = typing_extensions.TypeAliasType("Scores", dict[str, set[int]])


def converted(annotation, value):
    """What a parameter of a type gets for a JSON value."""

    def function(it): ...

    function.__annotations__ = {"it": annotation}
    return ArgumentConverter(function)({"it": value})["it"]


UTC = datetime.UTC
IDENTITY = uuid.UUID(int=5)


@pytest.mark.parametrize(
    ("annotation", "json_value", "value"),
    [
        (str, "a", "a"),
        (int, 2.0, 2),
        (float, 2, 2.0),
        (bool, True, True),
        (None, None, None),
        (Any, {"a": [1]}, {"a": [1]}),
        (object, [1], [1]),
        (Name, "a", Name("a")),
        (UserId, 3, 3),
        (Number, 3, 3),
        (Number, 3.5, 3.5),
        (Unit, "f", Unit.FAHRENHEIT),
        (Level, 2, Level.HIGH),
        (Permission, 3, Permission.READ | Permission.WRITE),
        (Literal["a", 1], 1, 1),
        (Literal[True, 1], 1, 1),
        (Literal[Unit.CELSIUS], "c", Unit.CELSIUS),
        (datetime.datetime, "2025-06-28T12:00:00Z", datetime.datetime(2025, 6, 28, 12, tzinfo=UTC)),
        (datetime.date, "2025-06-28", datetime.date(2025, 6, 28)),
        (datetime.time, "12:30", datetime.time(12, 30)),
        (datetime.timedelta, "P1DT1H1.5S", datetime.timedelta(1, 3601, 500_000)),
        (datetime.timedelta, "-PT1M", datetime.timedelta(minutes=-1)),
        (Moment, "2025-06-28", Moment(2025, 6, 28)),
        (Pause, "PT2S", Pause(seconds=2)),
        (uuid.UUID, str(IDENTITY), IDENTITY),
        (pathlib.Path, "a/b", pathlib.Path("a/b")),
        (pathlib.PurePosixPath, "a/b", pathlib.PurePosixPath("a/b")),
        (os.PathLike[str], "a/b", pathlib.Path("a/b")),
        (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
        (bytes, "é", "é".encode()),
        (bytearray, "a", bytearray(b"a")),
        (list[Unit], ["c"], [Unit.CELSIUS]),
        (abc.Sequence[Unit], ["c"], [Unit.CELSIUS]),
        (abc.Iterable[float], [1], [1.0]),
        (set[int], [1, 2], {1, 2}),
        (frozenset[Unit], ["c"], frozenset({Unit.CELSIUS})),
        (abc.Set[int], [1], {1}),
        (set, ["a"], {"a"}),
        (tuple[int, Unit], [1, "c"], (1, Unit.CELSIUS)),
        (tuple[float, ...], [1, 2], (1.0, 2.0)),
        (tuple, [1], (1,)),
        (collections.deque[int], [1], collections.deque([1])),
        (dict[str, Unit], {"a": "c"}, {"a": Unit.CELSIUS}),
        (abc.Mapping[Unit, float], {"c": 1}, {Unit.CELSIUS: 1.0}),
        (collections.OrderedDict, {"a": 1}, collections.OrderedDict(a=1)),
        (collections.defaultdict[str, int], {"a": 1}, collections.defaultdict(None, a=1)),
        (collections.Counter, {"a": 1}, collections.Counter("a")),
        (Scores, {"a": [1]}, {"a": {1}}),
        (
            Movie,
            {"title": "x", "seen": "2025-06-28", "more": 1},
            {"title": "x", "seen": datetime.date(2025, 6, 28), "more": 1},
        ),
        (Point, {"x": 1, "unit": "f"}, Point(1.0, 0.0, Unit.FAHRENHEIT)),
        (Node, {"name": "a", "children": [{"name": "b"}]}, Node("a", [Node("b")])),
        (Pair, {"left": "c", "right": str(IDENTITY)}, Pair(Unit.CELSIUS, IDENTITY)),
        (Optional[Point], None, None),
        (Point | None, {"x": 1}, Point(1.0)),
        (int | float, 2.0, 2.0),
        (float | int, 2, 2),
        (datetime.date | str, "2025-06-28", datetime.date(2025, 6, 28)),
        (datetime.date | str, "soon", "soon"),
        (str | datetime.date, "2025-06-28", "2025-06-28"),
        (Even | Point, {"x": 1}, Point(1.0)),
        (list[int] | int, 3, 3),
        (Annotated[Unit, "A scale."], "c", Unit.CELSIUS),
    ],
    ids=stable_repr,
)
def test_a_value_becomes_what_is_declared(annotation, json_value, value):
    found = converted(annotation, json_value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("annotation", "json_value", "reason"),
    [
        (datetime.date, "soon", '$.it: expected a date such as 2025-06-28, got "soon"'),
        (datetime.timedelta, "PT", "$.it: expected an ISO 8601 duration"),
        (datetime.timedelta, "P1Y", "$.it: expected an ISO 8601 duration"),
        (uuid.UUID, "5", "$.it: expected a UUID"),
        (decimal.Decimal, "1,5", "$.it: expected a decimal number"),
        (Unit, "k", '$.it: expected "c" or "f", got "k"'),
        (Permission, 64, "$.it: Permission: ValueError: "),
        (list[datetime.date], ["2025-06-28", "soon"], "$.it[1]: expected a date"),
        (dict[str, int], {"a": "x"}, '$.it.a: expected an integer, got "x"'),
        (tuple[int, int], [1], "$.it: expected 2 items, got 1"),
        (Point, {"x": 1, "z": 2}, "$.it: Point: got an unexpected keyword argument 'z'"),
        (Point, {}, "$.it: Point: missing a required argument: 'x'"),
        (Movie, {}, "$.it: Movie needs 'title'"),
        (Even, {"number": 3}, "$.it: Even: ValueError: it is odd"),
        (Node, {"name": "a", "children": [{"name": 1}]}, "$.it.children[0].name: expected text"),
        (set[Any], [[1]], "$.it: set: TypeError: unhashable"),
        (Unit | list[Point], [{"x": "a"}], "$.it[0].x: expected a number"),
        (float, 10**400, "$.it: the number is too large"),
        (int, True, "$.it: expected an integer, got true"),
    ],
    ids=stable_repr,
)
def test_what_does_not_fit_is_named_with_its_place(annotation, json_value, reason):
    with pytest.raises(ToolArgumentsError) as caught:
        converted(annotation, json_value)
    assert str(caught.value).startswith(reason)


class Opaque:
    pass


@pytest.mark.parametrize("annotation", [Opaque, list[Opaque], "nowhere.Thing", complex, 3])
def test_an_annotation_without_meaning_changes_nothing(annotation):
    assert converted(annotation, [1, {}]) == [1, {}]


def test_a_schema_of_its_own_does_not_hide_the_annotations():
    def when(day: datetime.date): ...

    assert ArgumentConverter(when)({"day": "2025-06-28"}) == {"day": datetime.date(2025, 6, 28)}


class Options(TypedDict, total=False):
    unit: Unit


def test_keywords():
    def numbers(**others: float): ...
    def options(**others: typing.Unpack[Options]): ...
    def anything(**others): ...

    assert ArgumentConverter(numbers)({"a": 1}) == {"a": 1.0}
    assert ArgumentConverter(options)({"unit": "c"}) == {"unit": Unit.CELSIUS}
    assert ArgumentConverter(anything)({"self": 1}) == {"self": 1}


def test_what_a_function_does_not_take_is_refused():
    def function(a: int, b: int = 1): ...

    with pytest.raises(ToolArgumentsError, match="missing a required argument: 'a'"):
        ArgumentConverter(function)({"b": 1})
    with pytest.raises(ToolArgumentsError, match="unexpected keyword argument 'c'"):
        ArgumentConverter(function)({"a": 1, "c": 1})
    bound = functools.partial(function, 1)
    assert ArgumentConverter(bound)({"b": 2.0}) == {"b": 2}
    # What has no signature takes what it takes.
    assert ArgumentConverter(type)({"a": 1}) == {"a": 1}


class Method:
    def move(self, to: Point): ...

    def __call__(self, to: "Point"): ...


def test_methods_and_objects():
    for function in (Method().move, Method(), functools.partial(Method.move, Method())):
        assert ArgumentConverter(function)({"to": {"x": 1}}) == {"to": Point(1.0)}


def test_pydantic_models():
    pydantic = pytest.importorskip("pydantic")

    class Address(pydantic.BaseModel, strict=True):
        street: str
        since: datetime.date | None = None

    def move(to: Address, others: list[Address] = []): ...  # noqa: B006

    convert = ArgumentConverter(move)
    home = {"street": "a", "since": "2025-06-28"}
    address = Address(street="a", since=datetime.date(2025, 6, 28))
    assert convert({"to": home, "others": [home]}) == {"to": address, "others": [address]}
    with pytest.raises(ToolArgumentsError) as caught:
        convert({"to": home, "others": [{"street": 1}]})
    assert str(caught.value) == ("$.others[0]: Address: $.street: Input should be a valid string")


# --- Properties -----------------------------------------------------------------------------


class Kind(NamedTuple):
    """A type, and values of it with their JSON."""

    annotation: Any
    values: st.SearchStrategy


def plain(annotation, values, to_json=lambda value: value):
    return Kind(annotation, values.map(lambda value: (value, to_json(value))))


NAMES = st.text(max_size=5)
LEAVES = [
    plain(str, st.text()),
    plain(int, st.integers()),
    plain(float, st.floats(allow_nan=False, allow_infinity=False)),
    plain(bool, st.booleans()),
    plain(None, st.none()),
    plain(Unit, st.sampled_from(Unit), lambda unit: unit.value),
    plain(Level, st.sampled_from(Level), lambda level: level.value),
    plain(Literal["a", 1, True], st.sampled_from(["a", 1, True])),
    plain(uuid.UUID, st.uuids(), str),
    plain(datetime.datetime, st.datetimes(), datetime.datetime.isoformat),
    plain(datetime.date, st.dates(), str),
    plain(datetime.time, st.times(), str),
    plain(decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False), str),
    plain(pathlib.PurePosixPath, NAMES.map(pathlib.PurePosixPath), str),
    plain(bytes, NAMES.map(str.encode), bytes.decode),
]


def pairs(values):
    """Two lists out of one of pairs."""
    return [a for a, _ in values], [b for _, b in values]


def several(kind, make):
    def both(values):
        found, json_values = pairs(values)
        return make(found), json_values

    return st.lists(kind.values, max_size=3).map(both)


def list_of(kind):
    return Kind(list[kind.annotation], several(kind, list))


def sequence_of(kind):
    return Kind(abc.Sequence[kind.annotation], several(kind, list))


def tuple_of_any_length(kind):
    return Kind(tuple[kind.annotation, ...], several(kind, tuple))


def dict_of(kind):
    def both(values):
        found = {key: value for key, (value, _) in values.items()}
        return found, {key: json_value for key, (_, json_value) in values.items()}

    return Kind(
        dict[str, kind.annotation], st.dictionaries(NAMES, kind.values, max_size=3).map(both)
    )


def optional(kind):
    return Kind(Optional[kind.annotation], st.just((None, None)) | kind.values)


def annotated(kind):
    return Kind(Annotated[kind.annotation, "A text."], kind.values)


def tuple_of(kinds):
    def both(values):
        found, json_values = pairs(values)
        return tuple(found), json_values

    annotations = tuple(kind.annotation for kind in kinds)
    return Kind(tuple[annotations], st.tuples(*(kind.values for kind in kinds)).map(both))


def record_of(kinds, form):
    names = [f"f{index}" for index in range(len(kinds))]
    annotations = {name: kind.annotation for name, kind in zip(names, kinds, strict=True)}
    if form is TypedDict:
        cls, make = TypedDict("Record", annotations), dict
    elif form is NamedTuple:
        cls = make = NamedTuple("Record", annotations.items())
    else:
        cls = make = dataclasses.make_dataclass("Record", annotations.items())

    def both(values):
        found, json_values = pairs(values)
        named = dict(zip(names, found, strict=True))
        return make(**named), dict(zip(names, json_values, strict=True))

    return Kind(cls, st.tuples(*(kind.values for kind in kinds)).map(both))


def wider(kinds):
    few = st.lists(kinds, min_size=1, max_size=3)
    forms = st.sampled_from([TypedDict, NamedTuple, dataclasses.dataclass])
    return st.one_of(
        kinds.map(list_of),
        kinds.map(sequence_of),
        kinds.map(tuple_of_any_length),
        kinds.map(dict_of),
        kinds.map(optional),
        kinds.map(annotated),
        few.map(tuple_of),
        st.builds(record_of, few, forms),
    )


kinds = st.recursive(st.sampled_from(LEAVES), wider, max_leaves=6)


def shape(value):
    """A value with the types of all that it is made of: 1 and 1.0 and True differ."""
    if isinstance(value, dict):
        return (dict, [(key, shape(item)) for key, item in value.items()])
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return (type(value), [shape(getattr(value, field.name)) for field in fields])
    if isinstance(value, list | tuple):
        return (type(value), [shape(item) for item in value])
    return (type(value), value)


@given(st.lists(kinds, max_size=4), st.data())
def test_arguments_arrive_with_the_declared_types(parameters, data):
    """What a function accepts, its schema accepts as JSON; what arrives is what was meant."""
    arrived = {}

    def function(**arguments):
        arrived.update(arguments)

    names = [f"p{index}" for index in range(len(parameters))]
    function.__signature__ = inspect.Signature(
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind.annotation)
        for name, kind in zip(names, parameters, strict=True)
    )
    drawn = {n: data.draw(kind.values, n) for n, kind in zip(names, parameters, strict=True)}
    as_json = {name: json_value for name, (_, json_value) in drawn.items()}
    schema = tool_from_function(function).parameters
    if schema is not None:
        Draft202012Validator(schema).validate(as_json)
    function(**ArgumentConverter(function)(as_json))
    assert shape(arrived) == shape({name: value for name, (value, _) in drawn.items()})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(kinds, min_size=2, max_size=3), json_values)
def test_what_is_converted_is_what_the_schema_takes(choices, value):
    def function(it): ...

    function.__annotations__ = {"it": Union[tuple(kind.annotation for kind in choices)]}
    validator = Draft202012Validator(tool_from_function(function).parameters)
    with contextlib.suppress(ToolArgumentsError):
        ArgumentConverter(function)({"it": value})
        validator.validate({"it": value})
