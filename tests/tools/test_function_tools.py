"""Tools from functions: what their schemas say, and that they are right."""

# The older spellings of types are tested too.
# ruff: noqa: UP006, UP007, UP013, UP045

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import inspect
import json
import os
import pathlib
import sys
import textwrap
import types
import typing
import uuid
from collections import abc
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union

import docstring_parser
import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from strategies import stable_repr

from harmony_kit.errors import ToolError
from harmony_kit.tools._function import tool_from_function
from harmony_kit.wire._typescript.types import type_text

# --- Helpers --------------------------------------------------------------------------------


def schema_of(function, **options):
    """The schema of a function's arguments, checked to be one."""
    schema = tool_from_function(function, **options).parameters
    if schema is not None:
        Draft202012Validator.check_schema(schema)
    return schema


def taking(annotation, *default):
    """A function with one parameter of a type."""

    def function(value=None): ...

    function.__defaults__ = default or None
    function.__annotations__ = {"value": annotation}
    return function


def type_schema(annotation):
    return schema_of(taking(annotation))["properties"]["value"]


def accepts(annotation, value):
    return Draft202012Validator(schema_of(taking(annotation))).is_valid({"value": value})


# --- Types of which parameters can be -------------------------------------------------------


class Unit(enum.Enum):
    CELSIUS = "c"
    FAHRENHEIT = "f"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Permission(enum.Flag):
    READ = 1
    WRITE = 2


class Movie(TypedDict):
    """A film.

    Attributes:
        title: As shown
            on the poster.
    """

    title: str
    year: typing.NotRequired[int]


class Partial(TypedDict, total=False):
    id: typing.Required[Annotated[int, "A number."]]
    note: str


class Textual(TypedDict):
    """Its annotations are text, which `__required_keys__` does not see through."""

    name: "str"
    age: "typing.NotRequired[int]"
    kept: "Annotated[typing_extensions.ReadOnly[typing.Required[str]], 'Stays.']"


@dataclasses.dataclass
class Point:
    """A place.

    Args:
        x: To the right.
        y: Up.
    """

    x: float
    y: float = 0.0
    labels: list[str] = dataclasses.field(default_factory=list)
    seed: dataclasses.InitVar[int] = 0
    hidden: complex = dataclasses.field(default=0j, init=False)


@dataclasses.dataclass
class Node:
    name: str
    children: list["Node"]


class Pair(NamedTuple):
    left: int
    right: "str | None" = None


class Tree(TypedDict):
    left: "Tree | None"
    right: "Tree | None"


class Name(str):
    __slots__ = ()


class Opaque:
    pass


UserId = NewType("UserId", int)
Item = TypeVar("Item")
Number = TypeVar("Number", int, float)
Text = TypeVar("Text", bound=str)
Scores = typing_extensions.TypeAliasType("Scores", dict[str, float])
Couple = typing_extensions.TypeAliasType("Couple", tuple[Item, Item], type_params=(Item,))

STRING = {"type": "string"}
INTEGER = {"type": "integer"}


# --- Annotations ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, STRING),
        (int, INTEGER),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (None, {"type": "null"}),
        (Any, {}),
        (object, {}),
        (Name, STRING),
        (typing.LiteralString, STRING),
        (UserId, INTEGER),
        (Text, STRING),
        (Item, {}),
        (Number, {"type": "number"}),
        (list, {"type": "array"}),
        (list[int], {"type": "array", "items": INTEGER}),
        (typing.List, {"type": "array"}),
        (typing.List[int], {"type": "array", "items": INTEGER}),
        (list[Any], {"type": "array"}),
        (list["int"], {"type": "array", "items": INTEGER}),
        (abc.Sequence[int], {"type": "array", "items": INTEGER}),
        (abc.Iterable[int], {"type": "array", "items": INTEGER}),
        (abc.Collection[int], {"type": "array", "items": INTEGER}),
        (collections.deque[int], {"type": "array", "items": INTEGER}),
        (set[int], {"type": "array", "items": INTEGER, "uniqueItems": True}),
        (frozenset, {"type": "array", "uniqueItems": True}),
        (abc.Set[int], {"type": "array", "items": INTEGER, "uniqueItems": True}),
        (tuple, {"type": "array"}),
        (tuple[int, ...], {"type": "array", "items": INTEGER}),
        (tuple[int, int], {"type": "array", "items": INTEGER, "minItems": 2, "maxItems": 2}),
        (
            tuple[int, str],
            {"type": "array", "prefixItems": [INTEGER, STRING], "minItems": 2, "maxItems": 2},
        ),
        (Couple[int], {"type": "array", "items": INTEGER, "minItems": 2, "maxItems": 2}),
        (dict, {"type": "object"}),
        (abc.Mapping, {"type": "object"}),
        (collections.Counter, {"type": "object"}),
        (dict[str, int], {"type": "object", "additionalProperties": INTEGER}),
        (abc.Mapping[str, int], {"type": "object", "additionalProperties": INTEGER}),
        (dict[str, Any], {"type": "object", "additionalProperties": True}),
        (
            dict[Literal["a", "b"], int],
            {
                "type": "object",
                "propertyNames": {"type": "string", "enum": ["a", "b"]},
                "additionalProperties": INTEGER,
            },
        ),
        (Scores, {"type": "object", "additionalProperties": {"type": "number"}}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal[1, True], {"type": ["integer", "boolean"], "enum": [1, True]}),
        (Literal["a", 1, None], {"type": ["string", "integer", "null"], "enum": ["a", 1, None]}),
        (Literal[Unit.CELSIUS], {"type": "string", "enum": ["c"]}),
        (Unit, {"type": "string", "enum": ["c", "f"]}),
        (Level, {"type": "integer", "enum": [1, 2]}),
        (Permission, {"type": "integer"}),
        (datetime.datetime, {"type": "string", "format": "date-time"}),
        (datetime.date, {"type": "string", "format": "date"}),
        (datetime.time, {"type": "string", "format": "time"}),
        (datetime.timedelta, {"type": "string", "format": "duration"}),
        (uuid.UUID, {"type": "string", "format": "uuid"}),
        (pathlib.Path, STRING),
        (os.PathLike[str], STRING),
        (str | os.PathLike[str], STRING),
        (decimal.Decimal, STRING),
        (bytes, STRING),
    ],
    ids=stable_repr,
)
def test_a_type_gives_its_schema(annotation, schema):
    written = type_schema(annotation)
    assert json.dumps(written) == json.dumps(schema)


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (Optional[int], {"type": ["integer", "null"]}),
        (int | None, {"type": ["integer", "null"]}),
        (Union[str, int, None], {"type": ["string", "integer", "null"]}),
        (int | float, {"type": "number"}),
        (int | Any, {}),
        (Optional[Literal["a"]], {"type": ["string", "null"], "enum": ["a", None]}),
        (Literal["a", None] | None, {"type": ["string", "null"], "enum": ["a", None]}),
        (list[int] | None, {"type": ["array", "null"], "items": INTEGER}),
        (list[int] | str, {"anyOf": [{"type": "array", "items": INTEGER}, STRING]}),
        (Literal["a"] | int, {"anyOf": [{"type": "string", "enum": ["a"]}, INTEGER]}),
        (
            list[int] | str | None,
            {"anyOf": [{"type": "array", "items": INTEGER}, STRING, {"type": "null"}]},
        ),
        (
            list[list[int] | str] | Annotated[list[int] | str, "Nested."],
            {
                "anyOf": [
                    {
                        "type": "array",
                        "items": {"anyOf": [{"type": "array", "items": INTEGER}, STRING]},
                    },
                    {
                        "description": "Nested.",
                        "anyOf": [{"type": "array", "items": INTEGER}, STRING],
                    },
                ]
            },
        ),
        (Number | list[int], {"anyOf": [{"type": "number"}, {"type": "array", "items": INTEGER}]}),
    ],
    ids=stable_repr,
)
def test_a_union_gives_a_list_of_types_or_any_of(annotation, schema):
    written = type_schema(annotation)
    assert json.dumps(written) == json.dumps(schema)


def test_unions_within_unions_are_one():
    inner = TypeVar("inner", list[int], str)
    variants = [{"type": "array", "items": INTEGER}, STRING, {"type": "boolean"}]
    assert type_schema(inner | bool) == {"anyOf": variants}


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        (("A width.",), "A width."),
        ((object(), " A width. ", 3), "A width."),
        (("A width,", "in metres."), "A width, in metres."),
        ((typing_extensions.Doc("A width."),), "A width."),
        ((types.SimpleNamespace(description="A width."),), "A width."),
    ],
    ids=stable_repr,
)
def test_annotated_text_is_the_description(metadata, text):
    assert type_schema(Annotated[(int, *metadata)]) == {"type": "integer", "description": text}


def test_annotated_without_text_changes_nothing():
    assert type_schema(Annotated[int, 3]) == INTEGER


def test_a_typed_dict_is_an_object():
    assert type_schema(Movie) == {
        "type": "object",
        "properties": {
            "title": {"type": "string", "description": "As shown on the poster."},
            "year": INTEGER,
        },
        "required": ["title"],
    }
    assert type_schema(Partial) == {
        "type": "object",
        "properties": {"id": {"type": "integer", "description": "A number."}, "note": STRING},
        "required": ["id"],
    }


def test_required_and_not_required_count_in_text_as_well():
    schema = type_schema(Textual)
    assert schema["required"] == ["name", "kept"]
    assert schema["properties"]["kept"] == {"type": "string", "description": "Stays."}


def test_a_typed_dict_of_typing_extensions_is_an_object():
    other = typing_extensions.TypedDict("other", {"a": typing_extensions.NotRequired[int]})
    assert type_schema(other) == {"type": "object", "properties": {"a": INTEGER}}


def test_a_dataclass_is_an_object_of_what_it_takes():
    assert type_schema(Point) == {
        "type": "object",
        "properties": {
            "x": {"type": "number", "description": "To the right."},
            "y": {"type": "number", "description": "Up.", "default": 0.0},
            "labels": {"type": "array", "items": STRING},
            "seed": {"type": "integer", "default": 0},
        },
        "required": ["x"],
    }


def test_a_named_tuple_is_an_object():
    assert type_schema(Pair) == {
        "type": "object",
        "properties": {"left": INTEGER, "right": {"type": ["string", "null"], "default": None}},
        "required": ["left"],
    }


def test_a_type_within_itself_is_cut():
    assert type_schema(Node)["properties"]["children"] == {
        "type": "array",
        "items": {"type": "object"},
    }
    assert type_schema(Tree)["properties"]["left"] == {"type": ["object", "null"]}
    # Beside itself it is not within itself.
    assert type_schema(tuple[Node, Node])["items"] == type_schema(Node)


def test_an_alias_within_itself_is_cut_to_anything():
    class Alias:
        """Stands in for `type Alias = ...`, which Python 3.11 cannot parse."""

    alias = Alias()
    alias.__value__ = list[int] | dict[str, list[alias]]
    assert type_schema(alias) == {
        "anyOf": [
            {"type": "array", "items": INTEGER},
            {"type": "object", "additionalProperties": {"type": "array"}},
        ]
    }


# --- Models that describe themselves --------------------------------------------------------


class Box:
    """Stands in for a pydantic model."""

    schema: typing.ClassVar[dict[str, Any]] = {}

    @classmethod
    def model_json_schema(cls):
        return cls.schema


def box(schema):
    return type("Box", (Box,), {"schema": schema})


def test_a_model_gives_its_own_schema():
    schema = {"type": "object", "properties": {"a": INTEGER}, "title": "Box"}
    assert type_schema(box(schema)) == schema


def test_the_definitions_of_models_move_to_the_root():
    reference = {"$ref": "#/$defs/A"}
    one = box({"type": "array", "items": reference, "$defs": {"A": STRING}})
    same = box({"$ref": "#/$defs/A", "$defs": {"A": STRING}})
    other = box(
        {
            "type": "array",
            "items": [reference],
            "prefixItems": [{"$ref": "#/$defs/B"}],
            "$defs": {"A": INTEGER, "B": {"type": "array", "items": reference}},
        }
    )
    del other.schema["items"]

    def function(a: one, b: same, c: other, d: one | None = None): ...

    schema = schema_of(function)
    assert schema["$defs"] == {
        "A": STRING,
        "A2": INTEGER,
        "B": {"type": "array", "items": {"$ref": "#/$defs/A2"}},
    }
    assert schema["properties"]["b"] == reference
    validator = Draft202012Validator(schema)
    assert validator.is_valid({"a": ["x"], "b": "x", "c": [[1]]})
    assert not validator.is_valid({"a": ["x"], "b": "x", "c": [["x"]]})
    assert not validator.is_valid({"a": [1], "b": "x", "c": [[1]]})


def test_what_a_model_says_of_null_is_kept():
    constant = box({"type": "string", "const": "x"})
    assert accepts(constant | None, None)
    assert accepts(constant | None, "x")
    assert not accepts(constant | None, "y")
    assert accepts(Optional[box({"$ref": "#/$defs/A", "$defs": {"A": STRING}})], None)


def test_a_model_that_cannot_describe_itself_is_refused():
    class Broken:
        @classmethod
        def model_json_schema(cls):
            raise RuntimeError("no idea")

    with pytest.raises(ToolError, match=r"Broken\.model_json_schema\(\): no idea"):
        type_schema(Broken)


def test_pydantic_models_and_fields():
    pydantic = pytest.importorskip("pydantic")

    class Address(pydantic.BaseModel):
        """Where someone lives."""

        street: str
        neighbours: tuple["Address", ...] = ()

    width = Annotated[int, pydantic.Field(description="In metres.")]

    def move(to: Address, by: width = 1):
        """Move.

        Args:
            to: The new home.
        """

    schema = schema_of(move)
    assert schema["properties"]["to"]["description"] == "The new home."
    assert schema["properties"]["by"]["description"] == "In metres."
    validator = Draft202012Validator(schema)
    home = {"street": "a", "neighbours": [{"street": "b"}]}
    assert validator.is_valid({"to": home})
    assert not validator.is_valid({"to": {"street": "a", "neighbours": [{}]}})


def test_limits_in_annotations_are_in_the_schema():
    pydantic = pytest.importorskip("pydantic")
    annotated_types = pytest.importorskip("annotated_types")
    field = pydantic.Field
    cases = [
        (
            Annotated[int, field(ge=1, lt=9)],
            {"type": "integer", "minimum": 1, "exclusiveMaximum": 9},
        ),
        (Annotated[int, annotated_types.Interval(gt=1, le=9)], None),
        (Annotated[str, field(max_length=3, pattern="^a")], None),
        (Annotated[list[int], annotated_types.MinLen(2)], None),
        (Annotated[dict[str, int] | list[int], field(max_length=1)], None),
        (Annotated[int | None, field(multiple_of=5)], None),
    ]
    for annotation, schema in cases:
        assert schema in (None, type_schema(annotation))
        # The schema takes what pydantic takes.
        adapter = pydantic.TypeAdapter(annotation)
        for value in (0, 1, 5, 9, 10, None, "", "a", "abcd", "b", [], [1], [1, 2], {}, {"a": 1}):
            try:
                adapter.validate_python(value, strict=True)
            except pydantic.ValidationError:
                assert not accepts(annotation, value), (annotation, value)
            else:
                assert accepts(annotation, value), (annotation, value)


def test_limits_that_json_cannot_express_change_nothing():
    annotated_types = pytest.importorskip("annotated_types")
    day = datetime.date(2025, 6, 28)
    assert type_schema(Annotated[datetime.date, annotated_types.Ge(day)]) == {
        "type": "string",
        "format": "date",
    }


def test_a_field_as_default_is_refused():
    pydantic = pytest.importorskip("pydantic")

    def function(a: int = pydantic.Field(1, description="A number.")): ...

    with pytest.raises(ToolError, match=r"parameter `a.*: write Annotated\[\.\.\., Field"):
        tool_from_function(function)


# --- Parameters -----------------------------------------------------------------------------


def test_parameters_without_default_are_required():
    def function(a, b: int, c="x", *, d: bool, e: int | None = None): ...

    assert schema_of(function) == {
        "type": "object",
        "properties": {
            "a": {},
            "b": INTEGER,
            "c": {"default": "x"},
            "d": {"type": "boolean"},
            "e": {"type": ["integer", "null"], "default": None},
        },
        "required": ["a", "b", "d"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("default", "written"),
    [
        (None, None),
        (True, True),
        (1.5, 1.5),
        ("é", "é"),
        ((1, [2, "x"]), [1, [2, "x"]]),
        ({"a": [1, None]}, {"a": [1, None]}),
        (Unit.CELSIUS, "c"),
        ([Level.HIGH], [2]),
    ],
    ids=stable_repr,
)
def test_a_default_that_json_can_express_is_written(default, written):
    schema = schema_of(taking(Any, default))
    assert schema["properties"]["value"] == {"default": written}
    assert "required" not in schema


@pytest.mark.parametrize(
    "default",
    [object(), float("nan"), float("inf"), b"x", {1: 2}, [object()], {"a": 1j}, {1}, Unit],
    ids=stable_repr,
)
def test_any_other_default_only_makes_the_parameter_optional(default):
    schema = schema_of(taking(int, default))
    assert schema["properties"]["value"] == INTEGER
    assert "required" not in schema


def test_a_function_without_parameters_has_no_schema():
    assert tool_from_function(lambda: 0, name="f").parameters is None


def test_further_keywords_are_additional_properties():
    def anything(**others): ...
    def numbers(a: int, **others: float): ...

    assert schema_of(anything) == {
        "type": "object",
        "properties": {},
        "additionalProperties": True,
    }
    assert schema_of(numbers)["additionalProperties"] == {"type": "number"}


def test_keywords_of_a_typed_dict_are_properties():
    def function(first: int, **options: typing.Unpack[Movie]): ...

    schema = schema_of(function)
    assert [*schema["properties"]] == ["first", "title", "year"]
    assert schema["required"] == ["first", "title"]
    assert schema["additionalProperties"] is False


def test_all_keywords_of_a_typed_dict_can_be_optional():
    optional = TypedDict("optional", {"a": int}, total=False)

    def function(**options: typing.Unpack[optional]): ...

    assert schema_of(function) == {
        "type": "object",
        "properties": {"a": INTEGER},
        "additionalProperties": False,
    }


# --- Docstrings -----------------------------------------------------------------------------

GOOGLE = """Find films.

Looks in *all*
catalogues.

Args:
    query: What to
        look for.
    **options: More.

Returns:
    The films.

Raises:
    ValueError: Never.
"""

NUMPY = """Find films.

Looks in *all*
catalogues.

Parameters
----------
query, other : str
    What to
    look for.
**options
    More.

Returns
-------
list
    The films.
"""

REST = """Find films.

Looks in *all*
catalogues.

:param query: What to
    look for.
:type query: str
:param options: More.
:returns: The films.
"""


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, REST], ids=["Google", "NumPy", "reST"])
@pytest.mark.parametrize("indented", [False, True])
def test_docstrings_describe(docstring, indented):
    def function(query: str, limit: int = 3): ...

    function.__doc__ = textwrap.indent(docstring, "    ").lstrip() if indented else docstring
    tool = tool_from_function(function)
    assert tool.description == "Find films.\n\nLooks in *all*\ncatalogues."
    assert tool.parameters["properties"] == {
        "query": {"type": "string", "description": "What to look for."},
        "limit": {"type": "integer", "default": 3},
    }


def test_one_entry_of_numpy_can_describe_several_parameters():
    def function(query: str, other: str): ...

    function.__doc__ = NUMPY
    properties = schema_of(function)["properties"]
    assert (
        properties["other"] == properties["query"] == STRING | {"description": "What to look for."}
    )


@pytest.mark.parametrize(
    ("docstring", "description"),
    [
        (None, ""),
        ("", ""),
        ("One line.", "One line."),
        ("\n    One line.\n    ", "One line."),
        ("A summary over\n    two lines.\n\n    More.", "A summary over\ntwo lines.\n\nMore."),
        ("Do.\n\n    Note:\n        Wide.\n    ", "Do.\n\nNote:\n    Wide."),
        (":a broken field", ":a broken field"),
        ("Costs: 3 €\n\n- a\n- b", "Costs: 3 €\n\n- a\n- b"),
    ],
)
def test_the_description_is_what_stands_before_the_sections(docstring, description):
    def function(): ...

    function.__doc__ = docstring
    assert tool_from_function(function).description == description


def test_a_docstring_that_no_style_explains_is_the_description():
    docstring = "Do.\n\n: : this"

    def function(x): ...

    function.__doc__ = docstring
    with pytest.raises(IndexError):
        docstring_parser.parse(docstring)
    assert tool_from_function(function).description == docstring


PIECES = ["Args:", "Returns:", "Parameters", "----------", ":param x:", "@param x: y", "x : int"]


@given(st.lists(st.sampled_from([*PIECES, "x:", ":", "(", "\n", "\n\n", "    "]) | st.text()))
def test_any_docstring_will_do(pieces):
    def function(x): ...

    function.__doc__ = " ".join(pieces)
    schema_of(function)


def test_annotated_text_counts_for_more_than_the_docstring():
    def function(a: Annotated[int, "From the annotation."], b: Annotated[int, 3]):
        """Do.

        Args:
            a: From the docstring.
            b: From the docstring.
        """

    properties = schema_of(function)["properties"]
    assert properties["a"]["description"] == "From the annotation."
    assert properties["b"]["description"] == "From the docstring."


def test_name_and_description_can_be_given():
    def function(a: int):
        """Do.

        Args:
            a: A number.
        """

    tool = tool_from_function(function, name="other", description="Else.")
    assert (tool.name, tool.description) == ("other", "Else.")
    assert tool.parameters["properties"]["a"]["description"] == "A number."
    assert tool_from_function(function, description="").description == ""


# --- Kinds of callables ---------------------------------------------------------------------


class Greeter:
    """Greets."""

    def greet(self, name: "Name"):
        """Say hello.

        Args:
            name: Whom to greet.
        """

    @classmethod
    def make(cls, word: str): ...

    @staticmethod
    def fixed(word: str): ...

    def __call__(self, name: "Name", loud: bool = False):
        """Greet someone.

        Args:
            name: Whom to greet.
        """


class Silent:
    """Does nothing."""

    def __call__(self): ...


GREETING = {"type": "string", "description": "Whom to greet."}


def test_bound_methods():
    tool = tool_from_function(Greeter().greet)
    assert (tool.name, tool.description) == ("greet", "Say hello.")
    assert tool.parameters["properties"] == {"name": GREETING}
    assert [*schema_of(Greeter.make)["properties"]] == ["word"]
    assert [*schema_of(Greeter.fixed)["properties"]] == ["word"]


def test_callable_objects():
    tool = tool_from_function(Greeter())
    assert (tool.name, tool.description) == ("Greeter", "Greet someone.")
    assert tool.parameters["properties"] == {
        "name": GREETING,
        "loud": {"type": "boolean", "default": False},
    }
    assert tool_from_function(Silent()).description == "Does nothing."


def test_classes():
    tool = tool_from_function(Point)
    assert (tool.name, tool.description) == ("Point", "A place.")
    assert [*tool.parameters["properties"]] == ["x", "y", "labels", "seed"]
    assert tool_from_function(Pair).description == ""


def test_async_functions():
    async def wait(seconds: float) -> None:
        """Wait."""

    tool = tool_from_function(wait)
    assert tool.function is wait
    assert tool.description == "Wait."
    assert tool.parameters["properties"] == {"seconds": {"type": "number"}}


def search(index: str, query: "Name", limit: int = 10, *, secret: str = "") -> list[str]:
    """Search.

    Args:
        query: What for.
    """
    return [index, query, str(limit), secret]


def test_what_a_partial_has_bound_is_not_shown():
    inner = functools.partial(search, "films", secret="hush")
    tool = tool_from_function(functools.partial(inner, limit=3))
    assert (tool.name, tool.description) == ("search", "Search.")
    assert tool.parameters["properties"] == {
        "query": {"type": "string", "description": "What for."}
    }
    assert "hush" not in tool.parameters_json
    assert tool.function(query="x") == ["films", "x", "3", "hush"]


def test_a_partial_of_a_method():
    tool = tool_from_function(functools.partial(Greeter().greet))
    assert (tool.name, tool.description) == ("greet", "Say hello.")
    assert tool.parameters["properties"] == {"name": GREETING}


def test_decorated_functions():
    @functools.wraps(search)
    def plain(*args, **kwargs):
        return search(*args, **kwargs)

    class Wrapper:
        def __init__(self, function):
            functools.update_wrapper(self, function)

        def __call__(self, *args, **kwargs): ...

    for decorated in (plain, functools.cache(search), Wrapper(search)):
        tool = tool_from_function(decorated)
        assert tool.name == "search"
        assert tool == tool_from_function(search)
        assert tool.function is decorated


def test_the_function_is_the_one_that_was_given():
    assert tool_from_function(search).function is search


# --- Annotations as text --------------------------------------------------------------------

MODULE = """
from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, TypedDict

if TYPE_CHECKING:
    from nowhere import Thing


class Options(TypedDict):
    limit: int | None


@dataclasses.dataclass
class Place:
    name: Annotated[str, "As on the map."]
    near: list[Place] | None = None


def travel(to: Place, options: Options) -> Thing: ...


def broken(thing: Thing): ...


def misspelt(thing: 'int['): ...
"""


@pytest.fixture
def module(monkeypatch):
    """A module whose annotations are all text."""
    made = types.ModuleType("a_module_of_tools")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    exec(compile(MODULE, "a_module_of_tools.py", "exec", dont_inherit=True), vars(made))
    return made


def test_annotations_of_a_module_can_all_be_text(module):
    schema = schema_of(module.travel)  # what it returns is not known at run time
    place = schema["properties"]["to"]
    assert place["properties"] == {
        "name": {"type": "string", "description": "As on the map."},
        "near": {"type": ["array", "null"], "items": {"type": "object"}, "default": None},
    }
    assert schema["properties"]["options"]["properties"] == {"limit": {"type": ["integer", "null"]}}


def test_names_are_looked_up_where_the_annotation_stands(module):
    @functools.wraps(module.travel)
    def travel(*args, **kwargs): ...

    assert schema_of(travel) == schema_of(module.travel)
    assert schema_of(functools.partial(travel, options={}))["required"] == ["to"]
    assert schema_of(module.Place)["required"] == ["name"]


@pytest.mark.parametrize("name", ["broken", "misspelt"])
def test_text_without_meaning_is_refused(module, name):
    with pytest.raises(ToolError, match=rf"^{name}\(\): parameter .*thing: .*Error: ") as caught:
        tool_from_function(getattr(module, name))
    assert caught.value.__cause__ is not None


# --- Refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (complex, "complex has no JSON form"),
        (Opaque, "Opaque has no JSON form"),
        (list[Opaque], "Opaque has no JSON form"),
        (int | Opaque, "Opaque has no JSON form"),
        (abc.Callable[[int], int], "Callable[[int], int] has no JSON form"),
        (abc.Callable, "Callable has no JSON form"),
        (type[int], "type[int] has no JSON form"),
        (abc.Iterator[int], "Iterator[int] has no JSON form"),
        (typing.Never, "Never has no JSON form"),
        (typing.Self, "Self has no JSON form"),
        (3, "3 has no JSON form"),
        (dict[int, str], "dict[int, str] has keys that are not strings"),
        (enum.Enum("Empty", []), "Empty has no members"),
        (enum.Enum("Odd", {"A": (1, 2)}), "(1, 2) is not a JSON value"),
        (enum.Enum("Endless", {"A": float("inf")}), "inf is not a JSON value"),
        (Literal[b"x"], "b'x' is not a JSON value"),
        (dataclasses.make_dataclass("Outer", [("inner", Opaque)]), "Outer: field `inner: "),
        (TypedDict("Outer", {"inner": Opaque}), "Outer: key 'inner': "),
        (TypedDict("Lost", {"inner": "no.where"}), "Lost: NameError: name 'no'"),  # noqa: F821
    ],
    ids=stable_repr,
)
def test_an_annotation_without_meaning_in_json_is_refused(annotation, words):
    with pytest.raises(ToolError) as caught:
        type_schema(annotation)
    message = str(caught.value)
    assert message.startswith("taking.<locals>.function(): parameter `value: ")
    assert words in message


def test_what_cannot_be_passed_by_name_is_refused():
    def several(a: int, *others: int): ...
    def first(a: int, /, b: int): ...

    with pytest.raises(ToolError, match=r"several\(\): parameter `\*others: int`: .* by name"):
        tool_from_function(several)
    with pytest.raises(ToolError, match=r"first\(\): parameter `a: int`: .* by name"):
        tool_from_function(first)
    # A partial can pass it.
    assert [*schema_of(functools.partial(first, 1))["properties"]] == ["b"]


def test_what_is_no_function_is_refused():
    with pytest.raises(ToolError, match="a int is not callable"):
        tool_from_function(3)
    with pytest.raises(ToolError, match=r"^type\(\): no signature"):
        tool_from_function(type)
    with pytest.raises(ToolError, match=r"<lambda> has no valid tool name"):
        tool_from_function(lambda a: a)
    assert tool_from_function(lambda a: a, name="same").name == "same"


# --- As the models read it ------------------------------------------------------------------


def get_weather(
    location: Annotated[str, "The city and state, e.g. San Francisco, CA."],
    unit: Unit = Unit.CELSIUS,
    days: int | None = None,
    layers: list[Literal["rain", "wind"]] = [],  # noqa: B006
    place: Point | None = None,
):
    """Get the weather.

    Args:
        unit: The scale
            of temperatures.
    """


def test_a_schema_reads_well():
    schema = schema_of(get_weather)
    assert type_text(schema) == (
        "{\n"
        "// The city and state, e.g. San Francisco, CA.\n"
        "location: string,\n"
        "// The scale of temperatures.\n"
        'unit?: "c" | "f", // default: c\n'
        "days?: number | null, // default: null\n"
        'layers?: "rain" | "wind"[], // default: []\n'
        "place?: object | null, // default: null\n"
        "}"
    )
    assert list(schema["properties"]["unit"]) == ["type", "description", "enum", "default"]


# --- Properties -----------------------------------------------------------------------------


def _object_of(kinds):
    annotations = {f"f{i}": annotation for i, (annotation, _) in enumerate(kinds)}
    values = {f"f{i}": value for i, (_, value) in enumerate(kinds)}
    return (
        st.sampled_from(
            [
                TypedDict("Record", annotations),
                dataclasses.make_dataclass("Record", annotations.items()),
                NamedTuple("Record", annotations.items()),
            ]
        ),
        st.fixed_dictionaries(values),
    )


def _or_none(kind):
    annotation, values = kind
    return Optional[annotation], st.none() | values


def _either(kinds):
    annotations, values = zip(*kinds, strict=True)
    return Union[annotations], st.one_of(values)


_LEAVES = [
    (str, st.text()),
    (int, st.integers()),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (None, st.none()),
    (Any, st.integers() | st.text() | st.lists(st.booleans())),
    (Unit, st.sampled_from(["c", "f"])),
    (Literal["a", 1, True], st.sampled_from(["a", 1, True])),
    (Annotated[int, "A number."], st.integers()),
    (uuid.UUID, st.uuids().map(str)),
    (datetime.date, st.dates().map(str)),
]


NAMES = st.text(max_size=5)


def _few(values):
    return st.lists(values, max_size=3)


def _tuple_of(kinds):
    annotations, values = zip(*kinds, strict=True)
    return tuple[annotations], st.tuples(*values).map(list)


def _record_of(kinds):
    classes, values = _object_of(kinds)
    return st.tuples(classes, st.just(values))


def _wider(kinds):
    several = st.lists(kinds, min_size=1, max_size=3)
    return st.one_of(
        kinds.map(lambda kind: (list[kind[0]], _few(kind[1]))),
        kinds.map(lambda kind: (abc.Sequence[kind[0]], _few(kind[1]))),
        kinds.map(lambda kind: (dict[str, kind[0]], st.dictionaries(NAMES, kind[1], max_size=3))),
        several.map(_tuple_of),
        kinds.map(_or_none),
        several.map(_either),
        several.flatmap(_record_of),
    )


kinds = st.recursive(st.sampled_from(_LEAVES), _wider, max_leaves=6)


@given(st.lists(st.tuples(kinds, st.booleans()), max_size=4), st.data())
def test_a_schema_accepts_what_the_function_does(parameters, data):
    annotations = {f"p{i}": kind[0] for i, (kind, _) in enumerate(parameters)}
    arguments = {}
    signature = []
    for (name, annotation), ((_, values), has_default) in zip(
        annotations.items(), parameters, strict=True
    ):
        value = data.draw(values, label=name)
        default = value if has_default else inspect.Parameter.empty
        kind = inspect.Parameter.KEYWORD_ONLY
        signature.append(inspect.Parameter(name, kind, default=default, annotation=annotation))
        if not has_default or data.draw(st.booleans(), label=f"pass {name}"):
            arguments[name] = value

    def function(**_): ...

    function.__signature__ = inspect.Signature(signature)
    schema = schema_of(function)
    if schema is None:
        assert not parameters
        return
    validator = Draft202012Validator(schema)
    validator.validate(arguments)
    for name, value in arguments.items():
        default = schema["properties"][name].get("default", value)
        validator.evolve(schema=schema["properties"][name]).validate(default)
    assert not validator.is_valid({**arguments, "unknown": 1})
    for name in schema.get("required", ()):
        assert not validator.is_valid({k: v for k, v in arguments.items() if k != name})
    type_text(schema)
    type_text(schema, style="extended")


@given(kinds)
def test_unions_with_null_accept_null(kind):
    assert accepts(Optional[kind[0]], None)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (str, 1),
        (int, 1.5),
        (int, True),
        (bool, 1),
        (None, 0),
        (int | None, "1"),
        (list[int], ["1"]),
        (list[int] | None, ["1"]),
        (set[int], [1, 1]),
        (tuple[int, str], [1]),
        (tuple[int, str], [1, "a", 2]),
        (tuple[int, str], ["a", 1]),
        (dict[str, int], {"a": "b"}),
        (dict[Literal["a"], int], {"b": 1}),
        (Unit, "x"),
        (Optional[Unit], "x"),
        (Literal[1], 2),
        (Movie, {"year": 1999}),
        (Movie, {"title": "x", "year": "1999"}),
        (Point, {"y": 1}),
        (Point | None, {"y": 1}),
        (list[Pair], [{"left": "x"}]),
    ],
    ids=stable_repr,
)
def test_a_schema_refuses_what_the_annotation_does(annotation, value):
    assert not accepts(annotation, value)
