"""The command `harmony-kit grammar`."""

import json
import subprocess
import sys

import jsonschema
import pytest
from llguidance import LLMatcher

import harmony_kit as hk
from harmony_kit.cli import main
from harmony_kit.grammar._matching import Matcher
from harmony_kit.wire._vocabulary import encode_with_special

PARAMETERS = {"type": "object", "properties": {"days": {"type": "integer", "maximum": 20}}}
CHAT = {
    "messages": [{"role": "user", "content": "Hi"}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}],
    "tool_choice": "required",
}
RESPONSES = {
    "input": "Hi",
    "tools": [{"type": "function", "name": "f", "parameters": PARAMETERS}],
    "tool_choice": "required",
}
ANTHROPIC = {
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 9,
    "tools": [{"name": "f", "input_schema": PARAMETERS}],
    "tool_choice": {"type": "any"},
}
HARMONY = json.loads(
    hk.messages_to_json(
        [hk.developer("Hi", tools=[hk.Tool("f", parameters=PARAMETERS)]), hk.user("Hi")]
    )
)
CALL = '<|channel|>commentary to=functions.f json<|message|>{"days": 2}<|call|>'
WRONG = '<|channel|>commentary to=functions.f json<|message|>{"days": 29}<|call|>'
ANSWER = "<|channel|>final<|message|>Hi.<|return|>"
REQUESTS = {"chat": CHAT, "responses": RESPONSES, "anthropic": ANTHROPIC, "harmony": HARMONY}


@pytest.fixture
def run(tmp_path, capsys):
    def run(body, *options, source="chat", completion=None):
        request = tmp_path / "request.json"
        request.write_text(body if isinstance(body, str) else json.dumps(body))
        arguments = ["grammar", str(request), "--from", source, *options]
        if completion is not None:
            (tmp_path / "completion").write_text(completion)
            arguments += ["--check", str(tmp_path / "completion")]
        code = main(arguments)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def admits(lark, text):
    matcher = Matcher(lark)
    return all(map(matcher.accept_token, encode_with_special(text))) and matcher.is_finished


@pytest.mark.parametrize("source", REQUESTS)
def test_the_grammar_is_that_of_the_request(run, source):
    code, out, err = run(REQUESTS[source], source=source)
    assert (code, err) == (0, "")
    assert admits(out, CALL)
    assert not admits(out, WRONG)
    assert admits(out, ANSWER) is (source == "harmony")  # which has no tool choice


def test_every_form(run):
    made = hk.constraint(
        [hk.Tool("f", parameters=PARAMETERS)], tool_choice="required", reasoning="free"
    )
    forms = {form: run(CHAT, "--form", form)[1] for form in ("lark", "ebnf", "gbnf")}
    assert forms == {"lark": made.lark, "ebnf": made.ebnf, "gbnf": made.gbnf}
    code, out, _ = run(CHAT, "--form", "structural-tag")
    assert (code, json.loads(out)) == (0, made.structural_tag)
    assert not LLMatcher.validate_grammar(forms["lark"])


@pytest.mark.parametrize("source", ["chat", "harmony"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--tool-choice", "none"], [ANSWER]),
        (["--tool-choice", "auto"], [CALL, ANSWER]),
        (["--tool-choice", "functions.f"], [CALL]),
        (["--tool-choice", "required", "--no-strict"], [CALL, WRONG]),
        (["--tool-choice", "required", "--strict", "--reasoning", "none"], [CALL]),
        (
            ["--tool-choice", "auto", "--after", "<|channel|>"],
            [CALL.removeprefix("<|channel|>"), ANSWER.removeprefix("<|channel|>")],
        ),
    ],
)
def test_options_go_before_the_request(run, source, options, expected):
    _, out, _ = run(REQUESTS[source], *options, source=source)
    texts = [CALL, WRONG, ANSWER]
    texts += [text.removeprefix("<|channel|>") for text in texts]
    assert [text for text in texts if admits(out, text)] == expected


def test_a_limit_of_reasoning(run):
    thought = "<|channel|>analysis<|message|>a b c<|end|><|start|>assistant"
    for limit, is_admitted in ((3, True), (2, False)):
        _, out, _ = run(CHAT, "--reasoning", str(limit))
        assert admits(out, thought + CALL) is is_admitted


# --- Checking -------------------------------------------------------------------------------


def test_a_completion_that_is_admitted(run):
    assert run(CHAT, "--text", completion=CALL + "\n")[:2] == (0, "admitted: 16 tokens\n")
    tokens = encode_with_special(CALL)
    for written in (json.dumps(tokens), " ".join(map(str, tokens))):
        assert run(CHAT, completion=written)[:2] == (0, "admitted: 16 tokens\n")


def test_where_a_completion_is_refused(run):
    code, out, err = run(CHAT, "--text", completion=WRONG)
    assert (code, err) == (1, "")
    (token,) = hk.encode("29")
    first, before, allowed = out.splitlines()
    assert first == f'refused at token 13 of 16: "29" ({token})'
    assert before == "after: " + WRONG[: WRONG.index("29")]
    digits = [f'"{digit}" ({hk.encode(str(digit))[0]})' for digit in range(10)]
    assert allowed.startswith(f'allowed there: "-" ({hk.encode("-")[0]}), {", ".join(digits)}, ')
    assert allowed.endswith(" and 10 more")  # 11 to 20: "20" stands among the twelve shown


@pytest.mark.parametrize(
    ("completion", "first", "allowed"),
    [
        (
            CALL.removesuffix("<|call|>"),
            "refused: it ends after 15 tokens, before it is complete",
            "allowed there: <|call|> (200012)",
        ),
        (
            CALL + "x",
            "refused at token 16 of 17: ",
            "allowed there: nothing; the completion is complete",
        ),
        ("<|start|>", "refused at token 0 of 1: <|start|> (200006)", "allowed there: <|channel|>"),
        (
            "",
            "refused: it ends after 0 tokens, before it is complete",
            "allowed there: <|channel|>",
        ),
        (ANSWER, 'refused at token 1 of 6: "final"', 'allowed there: "a" (64), '),
    ],
)
def test_what_was_allowed_there(run, completion, first, allowed):
    code, out, _ = run(CHAT, "--text", completion=completion)
    lines = out.splitlines()
    assert code == 1
    assert lines[0].startswith(first)
    assert lines[-1].startswith(allowed)


def test_long_texts_are_cut_and_controls_shown(run):
    text = "<|channel|>analysis<|message|>" + "\x1b[2J" * 500 + "<|call|>"
    code, out, _ = run(CHAT, "--text", completion=text)
    assert code == 1
    assert "\x1b" not in out
    assert len(out) < 1000
    assert "after: …" in out


def test_ids_that_are_none_are_refused(run):
    for written in ("200005 999999", "200005 -1"):
        code, out, _ = run(CHAT, completion=written)
        assert code == 1
        assert f"refused at token 1 of 2: {written.split()[1]} (not a token)" in out


# --- Errors ---------------------------------------------------------------------------------

BROKEN = {"type": "object", "properties": {"a": {"not": {"type": "null"}}}}


def chat_with(parameters, **more):
    function = {"name": "f", "parameters": parameters, **more}
    return {**CHAT, "tools": [{"type": "function", "function": function}]}


@pytest.mark.parametrize(
    ("body", "options", "reason"),
    [
        ("{", [], "not JSON: "),
        ("[" * 100_000, [], "not JSON: "),
        ({}, [], "messages: there is no message"),
        (CHAT, ["--tool-choice", "functions.g"], "tool_choice: no tool 'functions.g' was declared"),
        (CHAT, ["--reasoning", "some"], "reasoning: 'some' is neither 'free' nor 'none' nor a"),
        (CHAT, ["--reasoning", "-1"], "reasoning: '-1' is neither 'free' nor 'none' nor a"),
        (CHAT, ["--after", "<|end|>"], "after: token 0, '<|end|>', is not admitted there"),
        (
            chat_with(BROKEN, strict=True),
            [],
            "tools[0].function.parameters.properties.a.not: llguidance does not enforce the",
        ),
        (
            chat_with(BROKEN),
            ["--strict"],
            "functions.f.properties.a.not: llguidance does not enforce the keyword 'not'",
        ),
        (
            chat_with({"type": "object", "patternProperties": {"a": {}}}, strict=True),
            ["--form", "gbnf"],
            "tools[0].function.parameters.patternProperties: a context-free grammar does not "
            "enforce",
        ),
        (CHAT, ["--form", "gbnf", "--reasoning", "5"], "reasoning: llama.cpp's grammars do not"),
    ],
)
def test_errors_name_the_place(run, body, options, reason):
    code, out, err = run(body, *options)
    assert (code, out) == (2, "")
    assert err.startswith(f"harmony-kit: error: {reason}"), err
    assert err.count("\n") == 1


def test_what_is_not_enforced_is_said(run):
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": BROKEN}}
    code, out, err = run({"messages": CHAT["messages"], "response_format": form})
    assert code == 0
    assert admits(out, '<|channel|>final<|message|>{"a": 1}<|return|>')
    path = "response_format.json_schema.schema.properties.a.not"
    assert err == f"{path}: not enforced: llguidance does not enforce the keyword 'not'\n"


def test_a_form_has_its_own_limits(run):
    """What llguidance does not read the rules can say, and are asked alone."""
    parameters = {"type": "object", "properties": {"a": {"enum": [2**60 + 1]}}}
    assert run(chat_with(parameters, strict=True), "--form", "gbnf")[0] == 0
    assert run(chat_with(parameters, strict=True))[0] == 2


def test_only_one_input_is_standard_input(capsys):
    assert main(["grammar", "--from", "chat", "--check", "-"]) == 2
    assert "cannot both be standard input" in capsys.readouterr().err


WITHOUT_LLGUIDANCE = """
import sys
sys.modules["llguidance"] = None
from harmony_kit.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_without_llguidance_grammars_are_printed_and_nothing_is_checked(tmp_path):
    (tmp_path / "request.json").write_text(json.dumps(CHAT))
    (tmp_path / "tokens").write_text("200005")

    def command(*options):
        arguments = ["grammar", str(tmp_path / "request.json"), "--from", "chat", *options]
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_LLGUIDANCE, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )

    assert admits(command().stdout, CALL)
    failed = command("--check", str(tmp_path / "tokens"))
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr == (
        "harmony-kit: error: constraints need the package 'llguidance': "
        "pip install 'harmony-kit[grammar]'\n"
    )


def test_the_values_that_the_tests_use_are_what_they_are_taken_for():
    jsonschema.validate({"days": 2}, PARAMETERS)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"days": 29}, PARAMETERS)
