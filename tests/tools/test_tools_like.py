"""All public functions that take tools take the same values."""

import asyncio
import json

import pydantic
import pytest

import harmony_kit as hk
from harmony_kit.tools import ToolPolicy, tool_from_function

EMPTY = {"type": "object", "properties": {}}


def look(place: str) -> str:
    """Look."""
    return f"{place} is empty"


class Search(pydantic.BaseModel):
    """Search."""

    query: str


class Shelf:
    """A source of tools."""

    is_builtin = False
    closed = 0

    @property
    def namespace(self):
        return hk.ToolNamespace("shelf", (hk.Tool("take", "Take.", EMPTY),))

    @property
    def tools(self):
        return {"shelf.take": hk.Tool("take", "Take.", EMPTY, function=lambda: "a book")}

    async def aclose(self):
        self.closed += 1


class Notebook(Shelf):
    """A source of a built-in tool."""

    is_builtin = True
    namespace = hk.PYTHON
    tools = {"python": hk.Tool("python", function=lambda code: code.upper())}  # noqa: RUF012


NAMESPACE = hk.ToolNamespace("yard", (hk.Tool("dig", "Dig.", EMPTY, function=lambda: "a bone"),))

KINDS = {
    "function": (look, ["functions.look"]),
    "tool": (tool_from_function(look), ["functions.look"]),
    "model": (Search, ["functions.Search"]),
    "namespace": (NAMESPACE, ["yard.dig"]),
    "source": (Shelf(), ["shelf.take"]),
    "toolbox": (
        hk.Toolbox([look, Shelf(), NAMESPACE]),
        ["functions.look", "shelf.take", "yard.dig"],
    ),
}


def in_toolbox(tools):
    return list(hk.Toolbox(tools).tools)


def in_developer(tools):
    return [
        f"{namespace.name}.{tool.name}"
        for namespace in hk.developer(tools=tools).content.tools
        for tool in namespace.tools
    ]


NAMES = ["functions.look", "functions.Search", "functions.other", "shelf.take", "yard.dig"]


def in_constraint(tools):
    names = []
    for name in NAMES:
        try:
            hk.constraint(tools, tool_choice=name)
        except hk.HarmonyError:
            continue
        names.append(name)
    return names


def in_tool_calls(tools):
    messages = [hk.call_message(name, "{}") for name in NAMES]
    calls = hk.tool_calls(messages, tools)
    return [call.full_name for call in calls if call.status != "undeclared"]


TAKERS = [in_toolbox, in_developer, in_constraint, in_tool_calls]


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_taken(taker, kind):
    value, names = KINDS[kind]
    assert sorted(taker([value])) == sorted(names)


def other() -> None:
    """Other."""


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_taken_next_to_others(taker, kind):
    value, names = KINDS[kind]
    expected = sorted({"functions.other", "functions.look", *names})
    functions = hk.ToolNamespace("functions", (tool_from_function(look),))
    assert sorted(taker([other, value, functions])) == expected
    assert sorted(taker([functions, value, other])) == expected


@pytest.mark.parametrize("take", [in_toolbox, in_developer, in_tool_calls, hk.constraint])
@pytest.mark.parametrize("kind", KINDS)
def test_an_iterator_is_taken(take, kind):
    value, _ = KINDS[kind]
    assert take(iter([value])) == take([value])


@pytest.mark.parametrize("taker", TAKERS)
def test_a_toolbox_is_taken_as_the_list(taker):
    value, names = KINDS["toolbox"]
    assert sorted(taker(value)) == sorted(names)


@pytest.mark.parametrize(
    "take", [hk.Toolbox, hk.constraint, lambda tools: hk.tool_calls([], tools)]
)
@pytest.mark.parametrize("value", [hk.PYTHON, hk.BROWSER, Notebook(), hk.Toolbox([Notebook()])])
def test_builtin_tools_are_taken(take, value):
    take([value, look])


@pytest.mark.parametrize("tools", [[hk.PYTHON], [Notebook()], hk.Toolbox([Notebook()])])
def test_builtin_tools_are_not_for_the_developer_message(tools):
    with pytest.raises(hk.errors.ToolError, match=r"python .* use system\(tools="):
        hk.developer(tools=tools)
    (namespace,) = hk.system(tools=tools).content.tools
    assert namespace == hk.PYTHON


TAKE = [
    hk.Toolbox,
    hk.constraint,
    lambda tools: hk.developer(tools=tools),
    lambda tools: hk.tool_calls([], tools),
    hk.tools.ToolCallStream,
]


@pytest.mark.parametrize("take", TAKE)
@pytest.mark.parametrize("value", [look, NAMESPACE, Search, Shelf(), "look", 5])
def test_a_single_value_is_not_a_list(take, value):
    with pytest.raises(hk.errors.ToolError, match=r"expected a list of tools such as \[look\]"):
        take(value)


@pytest.mark.parametrize("take", TAKE)
@pytest.mark.parametrize("value", [5, {}, None])
def test_other_values_are_refused(take, value):
    with pytest.raises(hk.errors.ToolError, match="is not a tool: expected a function or a Tool"):
        take([value])


@pytest.mark.parametrize("take", TAKE)
@pytest.mark.parametrize("as_namespace", [False, True])
def test_two_tools_of_one_name_are_refused(take, as_namespace):
    mine = tool_from_function(other, name="look")
    mine = hk.ToolNamespace("functions", (mine,)) if as_namespace else mine
    with pytest.raises(
        hk.errors.ToolError, match=r"two different tools are called functions\.look"
    ):
        take([look, mine])
    with pytest.raises(hk.errors.ToolError, match="the name of a tool and of a namespace"):
        take([hk.ToolNamespace("yard"), NAMESPACE])
    take([look, look, tool_from_function(look)])


@pytest.mark.parametrize("take", TAKE[:3])
def test_names_are_for_calls_alone(take):
    with pytest.raises(hk.errors.ToolError, match="a str is not a tool"):
        take(["look"])


def test_names_are_taken_next_to_every_other_kind():
    tools = ["other", *(value for value, _ in KINDS.values())]
    assert in_tool_calls(tools) == NAMES


def test_the_schema_of_a_tool_comes_before_its_bare_name():
    (call,) = hk.tool_calls([hk.call_message("functions.look", "{}")], ["look", look])
    assert call.status == "invalid"


def run(toolbox, recipient, arguments):
    text = f"<|channel|>commentary to={recipient}<|message|>{arguments}<|call|>"
    (call,) = hk.tool_calls(hk.parse(hk.encode_with_special(text)), toolbox)
    return asyncio.run(toolbox.run(call))


def test_a_toolbox_within_a_toolbox_runs_and_closes_its_sources():
    notebook, shelf = Notebook(), Shelf()
    outer = hk.Toolbox([other, hk.Toolbox([look, notebook]), hk.Toolbox(hk.Toolbox([shelf]))])
    assert run(outer, "python", "code").value == "CODE"
    assert run(outer, "shelf.take", "{}").value == "a book"
    assert run(outer, "functions.look", json.dumps({"place": "it"})).value == "it is empty"
    system, developer = outer.declared_in([])
    assert [namespace.name for namespace in system.content.tools] == ["python"]
    assert [namespace.name for namespace in developer.content.tools] == ["functions", "shelf"]
    asyncio.run(outer.aclose())
    assert (notebook.closed, shelf.closed) == (1, 1)


def refusing(text):
    return ToolPolicy(confirm=lambda call: text)


@pytest.mark.parametrize(
    ("inner", "outer", "refusal"),
    [
        ({}, {"policy": refusing("outer")}, "outer"),
        ({"policy": refusing("inner")}, {"policy": refusing("outer")}, "inner"),
        (
            {"policy": refusing("inner"), "policies": {"look": refusing("inner look")}},
            {"policy": refusing("outer")},
            "inner look",
        ),
        (
            {"policy": refusing("inner")},
            {"policies": {"look": refusing("outer look")}},
            "outer look",
        ),
    ],
)
def test_the_policies_of_a_toolbox_within_a_toolbox(inner, outer, refusal):
    toolbox = hk.Toolbox([other, hk.Toolbox([look], **inner)], **outer)
    answer = run(toolbox, "functions.look", '{"place": "it"}')
    assert answer.ending == "refused"
    assert answer.message.text.endswith(f": {refusal}")


def test_a_run_takes_a_toolbox_among_its_tools():
    def generate(prompt, sampling):
        if "it is empty" in hk.decode(prompt):
            return "<|channel|>final<|message|>Done.<|return|>"
        return '<|channel|>commentary to=functions.look<|message|>{"place": "it"}<|call|>'

    backend = hk.load_backend("function", function=generate)
    reply = hk.run([hk.user("Look.")], backend, tools=[hk.Toolbox([look]), other])
    assert reply.text == "Done."
