"""Print the grammar of a request's completions, or check a completion against it."""

from __future__ import annotations

import json
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Console

from ..convert.harmony import messages_from_json
from ..errors import HarmonyError
from ..wire._vocabulary import FIRST_SPECIAL, decode, encode_with_special
from ._convert import APIS, api_module, read_json
from ._files import read_input, token_ids
from ._show import visible

if TYPE_CHECKING:  # slow to import, and every command imports this module
    from ..convert._notes import Note
    from ..convert._request import HarmonyRequest
    from ..grammar import Constraint, Reasoning, Refusal, ToolChoice

_MOST_SHOWN: Final = 12
_MOST_BEFORE: Final = 200


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "file",
        nargs="?",
        default="-",
        help="a request or a conversation in JSON; - or nothing for standard input",
    )
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        choices=(*APIS, "harmony"),
        help="chat, responses, anthropic: a request of that API; harmony: messages in "
        "openai-harmony's JSON",
    )
    parser.add_argument(
        "--form",
        choices=list(_WRITERS),
        default="lark",
        help="lark (the default): for llguidance; structural-tag, ebnf: for xgrammar; gbnf: for "
        "llama.cpp",
    )
    parser.add_argument(
        "--tool-choice",
        metavar="auto|none|required|NAME",
        help="which tools may or must be called; NAME is a full name such as functions.f; "
        "defaults to the request's",
    )
    parser.add_argument(
        "--reasoning",
        metavar="free|none|TOKENS",
        help="the limit of the reasoning; defaults to the request's",
    )
    parser.add_argument(
        "--strict",
        action=BooleanOptionalAction,
        help="the arguments of all tools must match their schemas, or may be any object; "
        "defaults to the request's",
    )
    parser.add_argument(
        "--after",
        default="",
        metavar="TEXT",
        help="the start of the completion, with special tokens spelled out",
    )
    parser.add_argument(
        "--check",
        metavar="COMPLETION",
        help="check a completion instead: a file of token ids, as a JSON list or separated by "
        "whitespace; exit code 1 if it is refused",
    )
    parser.add_argument(
        "--text",
        action="store_true",
        help="the completion is text with special tokens spelled out",
    )


def main(options: Namespace) -> int:
    """Run the command; the exit code is 1 if a completion is refused."""
    if options.file == "-" == options.check:
        raise HarmonyError("the request and the completion cannot both be standard input")
    made, notes = _constraint(read_input(options.file), options)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    for note in notes:
        errors.print(f"{note.path}: {note.reason}", style="yellow", markup=False)
    if options.check is None:
        print(_WRITERS[options.form](made).rstrip("\n"))
        return 0
    return _check(made, _completion(options))


# --- The constraint -------------------------------------------------------------------------


def _constraint(text: str, options: Namespace) -> tuple[Constraint, Sequence[Note]]:
    """The constraint, and the parts of the request that it does not enforce."""
    from ..grammar import conversation_constraint

    if options.source != "harmony":
        request = api_module(options.source).read_request(read_json(text), unsupported="note")
        return _constraint_of_request(request, options)
    made = conversation_constraint(
        messages_from_json(text),
        tool_choice=options.tool_choice or "auto",
        reasoning=_reasoning(options) or "free",
        strict=options.strict is not False,
        after=encode_with_special(options.after),
    )
    return made, ()


def _constraint_of_request(
    request: HarmonyRequest, options: Namespace
) -> tuple[Constraint, Sequence[Note]]:
    from ..convert._constraints import Completion, constraint_of
    from ..grammar import Constraint, constraint

    choice = _tool_choice(options) or request.tool_choice
    reasoning = _reasoning(options) or request.reasoning
    after = encode_with_special(options.after)
    if options.strict is None:
        completion = Completion(request.tools, choice, request.response_format, reasoning, after)
        is_printed = options.check is None
        made, notes = constraint_of(
            completion,
            request.requirements,
            verify=_WRITERS[options.form] if is_printed else Constraint.verify,
        )
        return made, (*request.notes, *notes)
    made = constraint(
        request.tools,
        tool_choice=choice,
        response_format=request.response_format,
        reasoning=reasoning,
        strict=options.strict,
        after=after,
    )
    return made, request.notes


def _tool_choice(options: Namespace) -> ToolChoice | None:
    from ..tools._choice import tool_choice_of

    given = options.tool_choice
    return None if given is None else tool_choice_of(given)


def _reasoning(options: Namespace) -> Reasoning | None:
    given = options.reasoning
    return int(given) if given is not None and given.isdecimal() else given


_WRITERS: Final[dict[str, Callable[[Constraint], str]]] = {
    "lark": lambda made: made.lark,
    "structural-tag": lambda made: json.dumps(made.structural_tag, ensure_ascii=False),
    "ebnf": lambda made: made.ebnf,
    "gbnf": lambda made: made.gbnf,
}


# --- Checking -------------------------------------------------------------------------------


def _completion(options: Namespace) -> list[int]:
    text = read_input(options.check)
    return encode_with_special(text.removesuffix("\n")) if options.text else token_ids(text)


def _check(made: Constraint, completion: Sequence[int]) -> int:
    refusal = made.check(completion)
    if refusal is None:
        print(f"admitted: {len(completion)} tokens")
        return 0
    for line in _refusal_lines(made, completion, refusal):
        print(visible(line))
    return 1


def _refusal_lines(made: Constraint, completion: Sequence[int], refusal: Refusal) -> Iterable[str]:
    if refusal.token is None:
        yield f"refused: it ends after {refusal.position} tokens, before it is complete"
    else:
        yield f"refused at token {refusal.position} of {len(completion)}: {_shown(refusal.token)}"
    before = decode(completion[: refusal.position], errors="replace")
    is_cut = len(before) > _MOST_BEFORE
    yield f"after: {'…' if is_cut else ''}{before[-_MOST_BEFORE:]}"
    allowed = _allowed(made, completion[: refusal.position])
    if not allowed:
        yield "allowed there: nothing; the completion is complete"
        return
    shown = ", ".join(map(_shown, allowed[:_MOST_SHOWN]))
    more = len(allowed) - _MOST_SHOWN
    yield f"allowed there: {shown}{f', and {more:,} more' if more > 0 else ''}"


def _allowed(made: Constraint, taken: Sequence[int]) -> list[int]:
    """The tokens that may follow, special ones first."""
    matcher = made.matcher()
    for token in taken:
        matcher.accept_token(token)
    if matcher.is_finished:
        return []
    mask = int.from_bytes(matcher.bitmask(), "little")
    return sorted(_bits(mask), key=lambda token: (token < FIRST_SPECIAL, token))


def _bits(mask: int) -> list[int]:
    return [place for place, bit in enumerate(reversed(f"{mask:b}")) if bit == "1"]


def _shown(token: int) -> str:
    """A token by its text and its id."""
    try:
        text = decode([token], errors="replace")
    except HarmonyError:
        return f"{token} (not a token)"
    return f"{text if token >= FIRST_SPECIAL else json.dumps(text, ensure_ascii=False)} ({token})"
