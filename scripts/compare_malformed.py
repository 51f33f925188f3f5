"""Write docs/malformed.md: `python scripts/compare_malformed.py`.

Runs openai-harmony, strict and lenient, and harmony-kit on the collected cases of malformed
output, and says which of them gave the messages that the collection expects.
"""

import json
import os
import tempfile
from collections import Counter
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import harmony_kit as hk
from harmony_kit.wire._vocabulary import export_tiktoken

ROOT = Path(__file__).parent.parent
CONSTRAIN = "<|constrain|>"
FIELDS = ("role", "name", "channel", "recipient", "content_type", "content")
NOBODY = (None, "assistant", "user")
RIGHT, RIGHT_RAISED, TEXT_RIGHT, WRONG, RAISED = "right", "right*", "text right", "wrong", "raised"
VERDICTS = (RIGHT, RIGHT_RAISED, TEXT_RIGHT, WRONG, RAISED)
SCHEMAS = {
    # The case asks for a conversion, and names no schema.
    "arg-026": {"type": "object", "properties": {"count": {"type": "integer"}}},
}
INTRODUCTION = """\
# Malformed output

What becomes of completions that break the format, or nearly do: the {cases} cases of
`tests/data/malformed`, read by openai-harmony {theirs} and by harmony-kit {ours}.
Written by `python scripts/compare_malformed.py`.

How far to trust these figures:

- The cases were collected from issue trackers, tests and parsers of other projects, and some were
  made up after these. Each names its sources and its provenance:
  {provenance}.
- What a case should give was decided for this collection: the format does not say how to read what
  breaks it, and another reader may have good reasons for another choice.
- harmony-kit is developed and tested on these very cases. That it gets them right shows that it
  does what it set out to do, not how it fares on output that nobody has collected yet.
- To raise is what a strict parser is for: `raised` is no mistake of the strict one.
- openai-harmony does not read the arguments of calls and repairs none, nor does it claim to. Only
  messages are compared, so the cases about arguments are no trouble for it.
- {stripped} cases are texts that lost their special tokens. openai-harmony reads tokens alone; it
  was given these texts as ordinary tokens, which is hopeless. The last column leaves them out.

How each was asked:

- openai-harmony: `parse_messages_from_completion_tokens(tokens, Role.ASSISTANT, strict=...)`, where
  the tokens are those of the text with its special tokens. If the lenient one raises, a lenient
  `StreamableParser` gets the tokens one by one, and what it has read before it raises counts.
- harmony-kit: `parse_text` for a text, `parse` for token ids, both lenient. Given the very tokens
  that openai-harmony was given, it is right in {by_tokens} of {cases}; only text tells it more in
  {only_text}.

What the words mean:

- `right`: the expected messages and no others, in order: role, name, channel, recipient, content
  type (without its `<|constrain|>`) and content.
- `right*`: it raised, but the messages that the streaming parser had read before are right.
- `text right`: the messages are not right, but every content of the turn is there on a message of
  the same kind (analysis; commentary or a call; final). The header may be wrong, the name of a tool
  included, or there may be a message too many.
- `wrong`: other messages.
- `raised`: an exception.
"""
CALLS = """\
Of harmony-kit alone: {expected} tool calls are expected and {made} made, {right} of them with the
expected name, arguments and status. In {codes} of {cases} cases the problem codes are exactly those
expected.
"""


class Outcome(NamedTuple):
    """What one reader made of a case; no messages at all if it raised and gave none."""

    messages: list | None
    raised: bool = False


def load_cases():
    files = sorted((ROOT / "tests" / "data" / "malformed").glob("*.json"))
    return [case for file in files for case in json.loads(file.read_text("utf-8"))["cases"]]


def is_stripped(case):
    return case["input"]["text_mode"] == "stripped"


def tokens_of(case):
    given = case["input"]
    if given["form"] == "token_ids":
        return given["token_ids"]
    return (hk.encode if is_stripped(case) else hk.encode_with_special)(given["text"])


# --- The readers ----------------------------------------------------------------------------


def read_theirs(encoding, case, *, strict):
    import openai_harmony as reference

    tokens, role = tokens_of(case), reference.Role.ASSISTANT
    try:
        messages = encoding.parse_messages_from_completion_tokens(tokens, role, strict=strict)
        return Outcome([their_fields(message) for message in messages])
    except reference.HarmonyError:
        if strict:
            return Outcome(None, raised=True)
    parser = reference.StreamableParser(encoding, role, strict=False)
    with suppress(reference.HarmonyError):
        for token in tokens:
            parser.process(token)
        parser.process_eos()
    return Outcome([their_fields(message) for message in parser.messages], raised=True)


def their_fields(message):
    role, name = message.author.role.value, message.author.name
    content_type = (message.content_type or "").removeprefix(CONSTRAIN) or None
    content = "".join(part.text for part in message.content)
    return (role, name, message.channel, message.recipient, content_type, content)


def read_ours(case):
    given = case["input"]
    if given["form"] == "token_ids":
        return hk.parse(given["token_ids"])
    return hk.parse_text(given["text"], stripped=True if is_stripped(case) else None)


def our_outcome(read, given):
    try:
        result = read(given)
    except hk.HarmonyError:
        return Outcome(None, raised=True)
    return Outcome([tuple(getattr(message, key) for key in FIELDS) for message in result.messages])


# --- The verdicts ---------------------------------------------------------------------------


def verdict(case, outcome):
    expected = [
        tuple(message.get(key) for key in FIELDS) for message in case["expected"]["messages"]
    ]
    if outcome.messages == expected:
        return RIGHT_RAISED if outcome.raised else RIGHT
    if outcome.raised:
        return RAISED
    turn = expected[: case["expected"]["turn_messages"]]
    found = {kind_and_content(message) for message in outcome.messages}
    return TEXT_RIGHT if turn and found.issuperset(map(kind_and_content, turn)) else WRONG


def kind_and_content(message):
    role, _, channel, recipient, _, content = message
    return role, "commentary" if recipient not in NOBODY else channel, content


class Extra(NamedTuple):
    """What harmony-kit says beyond the messages: its calls, and the codes that differ."""

    made: int
    right: int
    different_codes: set


def our_extra(case):
    result = read_ours(case)
    schema = SCHEMAS.get(case["id"])
    names = case["input"]["declared_tools"]
    calls = hk.tool_calls(result, [hk.Tool(name, "", schema) if schema else name for name in names])
    wanted = case["expected"]["tool_calls"]
    right = sum(
        all(getattr(call, key) == want[key] for key in ("name", "arguments", "status"))
        for call, want in zip(calls, wanted, strict=False)
    )
    problems = [*result.problems, *(problem for call in calls for problem in call.problems)]
    codes = {problem.code for problem in problems}
    return Extra(len(calls), right, codes ^ set(case["expected"]["diagnosis"]))


# --- The document ---------------------------------------------------------------------------


def cell(text):
    return " ".join(text.split()).replace("|", "\\|")


def row(*cells):
    return f"| {' | '.join(cells)} |"


def table(encoding):
    """The whole document.

    Args:
        encoding: The encoding of openai-harmony.
    """
    cases = load_cases()
    readers = {
        "openai-harmony strict": lambda case: read_theirs(encoding, case, strict=True),
        "openai-harmony lenient": lambda case: read_theirs(encoding, case, strict=False),
        "harmony-kit": lambda case: our_outcome(read_ours, case),
    }
    verdicts = {
        name: [verdict(case, read(case)) for case in cases] for name, read in readers.items()
    }
    by_tokens = [verdict(case, our_outcome(hk.parse, tokens_of(case))) for case in cases]
    only_text = [case["id"] for case, found in zip(cases, by_tokens, strict=True) if found != RIGHT]
    provenance = Counter(case["provenance"] for case in cases).most_common()
    extra = [our_extra(case) for case in cases]
    lines = [
        INTRODUCTION.format(
            cases=len(cases),
            theirs=version("openai-harmony"),
            ours=version("harmony-kit"),
            provenance=", ".join(f"{count} {word}" for word, count in provenance),
            stripped=sum(map(is_stripped, cases)),
            by_tokens=by_tokens.count(RIGHT),
            only_text=", ".join(only_text),
        ),
        "## Summary",
        "",
        *summary(cases, verdicts),
        "",
        CALLS.format(
            cases=len(cases),
            expected=sum(len(case["expected"]["tool_calls"]) for case in cases),
            made=sum(each.made for each in extra),
            right=sum(each.right for each in extra),
            codes=sum(not each.different_codes for each in extra),
        ),
        *differences(cases, extra),
        "## The cases",
        "",
        row("case", "title", *readers),
        "|---|---|---|---|---|",
    ]
    for case, *found in zip(cases, *verdicts.values(), strict=True):
        lines.append(row(case["id"], cell(case["title"]), *found))
    return "\n".join([*lines, ""])


def summary(cases, verdicts):
    """A row for each reader: how often it got which verdict."""
    with_tokens = sum(not is_stripped(case) for case in cases)
    heading = (*(f"`{word}`" for word in VERDICTS), f"right of {len(cases)}")
    yield row("", *heading, f"of {with_tokens} with special tokens")
    yield "|---" + "|--:" * (len(VERDICTS) + 2) + "|"
    for name, found in verdicts.items():
        counts = Counter(found)
        right = [word in (RIGHT, RIGHT_RAISED) for word in found]
        kept = sum(ok for ok, case in zip(right, cases, strict=True) if not is_stripped(case))
        yield row(name, *(str(counts[word]) for word in VERDICTS), str(sum(right)), str(kept))


def differences(cases, extra):
    """A line for whatever harmony-kit's calls and codes have that is not as expected."""
    found = []
    for case, each in zip(cases, extra, strict=True):
        expected = len(case["expected"]["tool_calls"])
        if not each.made == each.right == expected:
            found.append(f"- {case['id']}: {each.right} of {expected} calls, {each.made} made.")
        for code in sorted(each.different_codes):
            missing = code in case["expected"]["diagnosis"]
            how = "expected, but not found" if missing else "found, but not expected"
            found.append(f"- {case['id']}: `{code}` is {how}.")
    return ["Where they differ:", "", *found, ""] if found else []


def main():
    with tempfile.TemporaryDirectory(prefix="harmony-kit-malformed-") as folder:
        Path(folder, "o200k_base.tiktoken").write_bytes(export_tiktoken())
        os.environ["TIKTOKEN_ENCODINGS_BASE"] = folder  # before openai-harmony is imported
        import openai_harmony as reference

        encoding = reference.load_harmony_encoding("HarmonyGptOss")
        (ROOT / "docs" / "malformed.md").write_text(table(encoding), "utf-8")


if __name__ == "__main__":
    main()
