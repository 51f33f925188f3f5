"""What tools are made of, and how they are declared and resolved."""

import asyncio
import functools
import re
import sys
import types
from pathlib import Path
from typing import ClassVar

import pytest

import harmony_kit as hk
from harmony_kit.tools._declared import declared_tools
from harmony_kit.tools._names import identifier, identifiers
from harmony_kit.tools._source import ToolSource, is_source


def run(toolbox, recipient, arguments="{}"):
    message = hk.call_message(recipient, arguments)
    closed = hk.wire.ParsedMessage(
        message, hk.wire.MessageSpan(0, 0, 0, 0), hk.wire.Terminator.CALL
    )
    (call,) = hk.tool_calls([closed], toolbox)
    return asyncio.run(toolbox.run(call))


def declarations(conversation):
    return hk.decode(hk.render(conversation))


# --- pydantic models ------------------------------------------------------------------------

pydantic = pytest.importorskip("pydantic")


class Search(pydantic.BaseModel):
    """Searches the files."""

    query: str = pydantic.Field(description="What to look for", min_length=1)
    limit: int = pydantic.Field(10, alias="self")

    @pydantic.field_validator("query")
    @classmethod
    def _no_secrets(cls, query):
        if query == "secret":
            raise ValueError("not that one")
        return query


def search(wanted):
    return [type(wanted).__name__, wanted.query, wanted.limit]


async def search_later(wanted):
    await asyncio.sleep(0)
    return search(wanted)


@pytest.mark.parametrize("function", [search, search_later])
def test_a_model_with_a_function_gets_the_instance(function):
    tool = hk.tools.tool_from_model(Search, function)
    assert (tool.name, tool.description) == ("Search", "Searches the files.")
    toolbox = hk.Toolbox([tool])
    answer = run(toolbox, "functions.Search", '{"query": "x", "self": "3"}')
    assert answer.value == ["Search", "x", 3]
    # What the schema cannot say, the model's validators do.
    answer = run(toolbox, "functions.Search", '{"query": "secret"}')
    assert answer.ending == "invalid"
    assert answer.message.text == (
        "Error: the arguments are not what functions.Search takes: "
        "$.query: Value error, not that one"
    )


def test_a_model_can_have_another_name_and_description():
    tool = hk.tools.tool_from_model(Search, search, name="find", description="Finds.")
    assert (tool.name, tool.description) == ("find", "Finds.")
    assert tool.parameters["properties"]["query"]["description"] == "What to look for"
    assert "title" not in tool.parameters["properties"]["query"]
    with pytest.raises(hk.errors.ToolError, match="5 is not a pydantic model class"):
        hk.tools.tool_from_model(5)


def test_a_model_alone_is_only_declared():
    toolbox = hk.Toolbox([Search])
    (call,) = hk.tool_calls([hk.call_message("functions.Search", '{"query": "x"}')], toolbox)
    assert call.runnable
    assert not toolbox.can_answer(call)


def test_models_within_functions_have_no_made_up_titles():
    def find(what: Search, among: list[Search]): ...

    parameters = hk.tools.tool_from_function(find).parameters
    assert "title" not in parameters["properties"]["what"]["properties"]["query"]
    assert "title" not in parameters["properties"]["among"]["items"]["properties"]["query"]


# --- JSON Schema with a callable ------------------------------------------------------------


def test_a_schema_with_a_callable():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    toolbox = hk.Toolbox([hk.Tool("double", "Doubles.", schema, function=lambda n: 2 * n)])
    assert run(toolbox, "functions.double", '{"n": "4"}').value == 8
    assert run(toolbox, "functions.double", '{"n": "x"}').ending == "invalid"


# --- Objects with methods -------------------------------------------------------------------


class Base:
    def zeroth(self): ...


class WeatherStation(Base):
    """Measures.

    Attributes:
        calls: How many.
    """

    limit: ClassVar[int] = 3

    def __init__(self):
        self.calls = 0
        self.callback = print

    def now(self, city: str) -> str:
        """The weather now.

        Args:
            city: Where.
        """
        self.calls += 1
        return f"{city}: {self.calls}"

    async def forecast(self, city: str) -> str:
        """The weather later."""
        return f"{city}, later"

    @property
    def secret(self):
        raise AssertionError("a property was run")

    @staticmethod
    def fixed(word: str): ...

    @classmethod
    def make(cls, word: str): ...

    @functools.cache  # noqa: B019
    def kept(self): ...

    def _hidden(self, anything, /): ...

    class Inner:
        pass


def test_the_public_methods_of_an_object_are_tools_of_one_namespace():
    station = WeatherStation()
    namespace = hk.tools.tools_from_object(station)
    assert (namespace.name, namespace.description) == ("weather_station", "Measures.")
    names = [tool.name for tool in namespace.tools]
    assert names == ["zeroth", "now", "forecast", "fixed", "make", "kept"]
    toolbox = hk.Toolbox([namespace])
    for expected in ("Paris: 1", "Paris: 2"):  # they share the state of the object
        assert run(toolbox, "weather_station.now", '{"city": "Paris"}').value == expected
    assert run(toolbox, "weather_station.forecast", '{"city": "Rome"}').value == "Rome, later"
    assert run(toolbox, "functions.weather_station.now", '{"city": "Paris"}').value == "Paris: 3"
    assert station.calls == 3


def test_some_methods_under_another_name():
    namespace = hk.tools.tools_from_object(
        WeatherStation(), namespace="functions", description="Mine.", only=["forecast", "now"]
    )
    assert (namespace.name, namespace.description) == ("functions", "Mine.")
    assert [tool.name for tool in namespace.tools] == ["forecast", "now"]
    with pytest.raises(hk.errors.ToolError, match="WeatherStation has no method limit"):
        hk.tools.tools_from_object(WeatherStation(), only=["limit"])
    with pytest.raises(hk.errors.ToolError, match="object has no public methods"):
        hk.tools.tools_from_object(object())


def test_a_method_that_cannot_be_a_tool_is_named():
    class Odd:
        def one(self, *values): ...

    with pytest.raises(hk.errors.ToolError, match=r"Odd\.one\(\): parameter `\*values`"):
        hk.tools.tools_from_object(Odd())


def test_a_module(monkeypatch):
    module = types.ModuleType("shop.tools", "Sells.")
    monkeypatch.setitem(sys.modules, "shop.tools", module)
    exec("from os import getcwd\ndef buy(what: str): ...\ndef _pay(): ...", vars(module))
    namespace = hk.tools.tools_from_object(module)
    assert (namespace.name, namespace.description) == ("tools", "Sells.")
    assert [tool.name for tool in namespace.tools] == ["buy"]


# --- Sources --------------------------------------------------------------------------------


class Notebook:
    """A source like python: one tool, addressed by its bare name, that takes text."""

    is_builtin = True
    namespace = hk.PYTHON

    def __init__(self):
        self.tools = {"python": hk.Tool("python", function=self.execute)}
        self.closed = 0

    async def execute(self, code: str) -> str:
        return f"ran {code}"

    async def aclose(self):
        self.closed += 1


class Shelf:
    """A source like a server: several tools in a namespace of their own."""

    is_builtin = False

    def __init__(self, name="shelf"):
        tool = hk.tools.tool_from_function(self.take, name="take")
        self.namespace = hk.ToolNamespace(name, (tool,), "A shelf.")
        self.tools = {f"{name}.take": tool}

    def take(self, number: int) -> int:
        return number

    async def aclose(self):
        raise OSError("stuck")


def greet(name: str) -> str:
    return f"Hello {name}"


def test_sources_are_told_from_other_things():
    assert isinstance(Notebook(), ToolSource)
    assert is_source(Shelf())
    for other in (Notebook, greet, Search, hk.PYTHON, hk.Tool("x"), WeatherStation()):
        assert not is_source(other)


def test_a_toolbox_takes_everything():
    station = hk.tools.tools_from_object(WeatherStation(), only=["now"])
    toolbox = hk.Toolbox([greet, hk.Tool("declared"), Search, station, Notebook(), Shelf()])
    assert [*toolbox.tools] == [
        "functions.greet",
        "functions.declared",
        "functions.Search",
        "weather_station.now",
        "python",
        "shelf.take",
    ]
    assert [namespace.name for namespace in toolbox] == [
        *("functions", "weather_station", "python", "shelf")
    ]
    assert run(toolbox, "shelf.take", '{"number": 3}').value == 3


@pytest.mark.parametrize("recipient", ["python", "functions.python"])
@pytest.mark.parametrize("content", ["1 + 1", '{"code": "1 + 1"}'])
def test_a_tool_of_a_bare_name_gets_text(recipient, content):
    answer = run(hk.Toolbox([Notebook(), greet]), recipient, content)
    assert answer.message.text == "ran 1 + 1"
    assert answer.message.name == "python"


def test_everything_is_declared_where_it_belongs():
    toolbox = hk.Toolbox([greet, Notebook(), Shelf()])
    system, developer, user = toolbox.declared_in([hk.user("hi")])
    assert system == hk.system(tools=[hk.PYTHON])
    assert [namespace.name for namespace in developer.content.tools] == ["functions", "shelf"]
    assert user == hk.user("hi")
    text = declarations([system, developer])
    assert text.index("## python") < text.index("<|start|>developer") < text.index("## functions")
    assert "namespace shelf {\n\ntype take = (_: {\nnumber: number,\n}) => any;" in text


def test_messages_declare_sources():
    assert hk.developer(tools=[greet, Shelf()]) == hk.developer(tools=[greet, Shelf().namespace])
    assert hk.system(tools=[Notebook()]) == hk.system(tools=[hk.PYTHON])


def test_what_is_declared_is_not_declared_again():
    toolbox = hk.Toolbox([greet, Notebook(), Shelf()])
    once = toolbox.declared_in([hk.system(), hk.developer("Be brief."), hk.user("hi")])
    assert once[1].content.instructions == "Be brief."
    assert len(once) == 3
    assert toolbox.declared_in(once) == once
    assert declared_tools(once) == {"functions.greet", "python", "shelf.take"}
    by_hand = [hk.system(tools=[hk.PYTHON]), hk.developer(tools=[greet, Shelf().namespace])]
    assert toolbox.declared_in(by_hand) == by_hand


def test_missing_tools_join_the_namespace_that_is_declared():
    conversation = [hk.developer(tools=[hk.Tool("first")])]
    (developer,) = hk.Toolbox([greet]).declared_in(conversation)
    (namespace,) = developer.content.tools
    assert [tool.name for tool in namespace.tools] == ["first", "greet"]


def test_a_content_among_several_is_extended():
    content = ("Today is Monday.", hk.wire.SystemContent())
    conversation = [hk.Message("system", content), hk.user("hi")]
    declared = hk.Toolbox([Notebook()]).declared_in(conversation)
    assert len(declared) == 2
    assert declared[0].content[0] == "Today is Monday."
    assert declared[0].content[1].tools == (hk.PYTHON,)


def test_built_in_namespaces_by_themselves_go_into_the_system_message():
    toolbox = hk.Toolbox([hk.BROWSER])
    (system,) = toolbox.declared_in([])
    assert system.content.tools == (hk.BROWSER,)
    (call,) = hk.tool_calls([hk.call_message("browser.search", '{"query": "x"}')], toolbox)
    assert not toolbox.can_answer(call)


def test_a_source_gives_functions_to_what_was_declared_without():
    shelf = Shelf()
    bare = hk.ToolNamespace(
        "shelf", (hk.Tool("take", "", shelf.namespace.tools[0].parameters),), "A shelf."
    )
    for tools in ([bare, shelf], [shelf, bare]):
        toolbox = hk.Toolbox(tools)
        assert run(toolbox, "shelf.take", '{"number": 3}').value == 3
        assert [namespace.description for namespace in toolbox] == ["A shelf."]


def test_different_tools_of_one_name_are_refused():
    with pytest.raises(hk.errors.ToolError, match=r"two different tools are called shelf\.take"):
        hk.Toolbox([Shelf(), Shelf()])
    assert hk.Toolbox([Shelf("one"), Shelf("two")])
    with pytest.raises(
        hk.errors.ToolError, match="python is the name of a tool and of a namespace"
    ):
        hk.Toolbox([Notebook(), Shelf("python")])


def test_the_tools_of_the_conversation_are_included():
    shelf = Shelf()
    conversation = [hk.developer(tools=[greet, shelf.namespace]), hk.user("hi")]
    toolbox = hk.Toolbox([Search], policy=hk.tools.ToolPolicy(confirm=lambda _: False))
    more = toolbox.merged_with(conversation)
    assert [*toolbox.tools] == ["functions.Search"]
    assert set(more.tools) == {"functions.Search", "functions.greet", "shelf.take"}
    assert run(more, "functions.greet", '{"name": "you"}').ending == "refused"

    # What is given stands before what an earlier run left in the conversation.
    def other(name: str) -> str:
        return f"Bye {name}"

    other.__name__ = "greet"
    more = hk.Toolbox([other]).merged_with(conversation)
    assert run(more, "functions.greet", '{"name": "you"}').value == "Bye you"


def test_closing_a_toolbox_closes_its_sources():
    async def go():
        notebook = Notebook()
        async with hk.Toolbox([notebook, greet]):
            assert not notebook.closed
        assert notebook.closed == 1
        with pytest.raises(OSError, match="stuck"):
            await hk.Toolbox([notebook, Shelf()]).aclose()
        assert notebook.closed == 2
        with pytest.raises(ExceptionGroup):
            await hk.Toolbox([Shelf("a"), Shelf("b")]).aclose()

    asyncio.run(go())


def test_calls_are_read_with_sources_as_tools():
    calls = hk.tool_calls([hk.call_message("shelf.take", '{"number": "x"}')], [Shelf(), Notebook()])
    assert calls[0].status == "invalid"


def test_a_run_with_everything():
    from scripted_model import FINAL_TEXT, Scripted

    thought = "<|channel|>analysis to=python code<|message|>1 + 1<|call|>"
    take = '<|channel|>commentary to=shelf.take<|message|>{"number": 7}<|call|>'
    backend = Scripted(thought, take, FINAL_TEXT.format(text="Done."))
    reply = hk.run([hk.user("hi")], backend, tools=[Notebook(), Shelf(), greet])
    results = [(m.name, m.channel, m.text) for m in reply.messages if m.role == "tool"]
    assert results == [("python", "analysis", "ran 1 + 1"), ("shelf.take", "commentary", "7")]
    assert reply.text == "Done."


def test_the_examples_of_the_documentation_run():
    text = Path(__file__).parents[2].joinpath("docs", "tools.md").read_text("utf-8")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
        for line in block.splitlines():
            expression, comment, expected = line.partition("  # ")
            if comment and expected[0] in "'[":
                assert eval(expression, names) == eval(expected), line


# --- Names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("get_weather", "get_weather"),
        ("get-weather", "get_weather"),
        ("get.weather/now", "get_weather_now"),
        ("2d map", "_2d_map"),
        ("¿qué?", "qué"),
        ("!", "unnamed"),
    ],
)
def test_names_become_identifiers(name, found):
    assert identifier(name) == found


def test_names_that_collide_are_kept_apart():
    names = ["get-weather", "get_weather", "get.weather", "get_weather_2"]
    found = identifiers(names)
    assert found["get_weather"] == "get_weather"
    assert found["get_weather_2"] == "get_weather_2"
    assert len(set(found.values())) == 4
