"""Convert conversations between API formats, Harmony's JSON, tokens and text."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rich.console import Console

from ..convert.harmony import messages_from_json, messages_to_json
from ..errors import HarmonyError
from ..wire._messages import Message
from ..wire._parser import parse
from ..wire._render import render, render_text
from ..wire._text import parse_text
from ._files import read_input, token_ids

if TYPE_CHECKING:
    from ..convert._notes import Note

# The modules for these formats are slow to import, and every command imports this one.
APIS: Final = {
    "chat": "chat_completions",
    "responses": "responses",
    "anthropic": "anthropic",
}
FORMS: Final = (*APIS, "harmony", "tokens", "text")


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="*", default=["-"], help="files; - or nothing: standard input"
    )
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        choices=FORMS,
        help="chat, responses, anthropic: a request or a response of that API; harmony: messages "
        "in openai-harmony's JSON; tokens, text: a rendered conversation, or with --role "
        "assistant a completion",
    )
    parser.add_argument(
        "--to",
        dest="target",
        required=True,
        choices=FORMS,
        help="chat, responses, anthropic: a request of that API; tokens, text: a prompt",
    )
    parser.add_argument(
        "--jsonl", action="store_true", help="read and write one JSON value per line"
    )
    parser.add_argument("--model", default="gpt-oss", help="the model name in requests")
    parser.add_argument(
        "--current-date", metavar="YYYY-MM-DD", help="the date in the system message"
    )
    parser.add_argument(
        "--max-tokens",
        type=int,
        help="the token limit in requests; Anthropic's API requires one, 4096 by default",
    )
    parser.add_argument(
        "--role",
        choices=["assistant", "none"],
        default="none",
        help="the role at the end of the prompt before the tokens or text; none for a conversation",
    )
    parser.add_argument(
        "--note",
        action="store_true",
        help="leave out what Harmony cannot represent, with a warning, instead of failing",
    )


class _Conversation(NamedTuple):
    """A converted input.

    Attributes:
        messages: The messages as in a prompt.
        client_messages: The messages with the client's function names.
        notes: What was not converted.
    """

    messages: tuple[Message, ...]
    client_messages: tuple[Message, ...]
    notes: tuple[Note, ...] = ()


def main(options: Namespace) -> int:
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    for source, value in _inputs(options, errors):
        try:
            read = _READERS[options.source](value, options)
            is_api = options.target in APIS
            messages = read.client_messages if is_api else read.messages
            written = _WRITERS[options.target](messages, options)
        except HarmonyError as error:
            raise HarmonyError(f"{source}: {error}") from None
        for note in read.notes:
            errors.print(f"{source}: {note.path}: {note.reason}", style="yellow", markup=False)
        print(_shown(written, options))
    return 0


def _inputs(options: Namespace, errors: Console) -> Iterator[tuple[str, Any]]:
    """The values to convert, each with the name of its source."""
    for file in options.files:
        name = "standard input" if file == "-" else file
        text = read_input(file)
        if not options.jsonl:
            yield name, text
            continue
        from rich.progress import track

        lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
        progress: Iterable[tuple[int, str]] = track(
            lines, description=name, console=errors, transient=True, disable=not errors.is_terminal
        )
        for number, line in progress:
            yield f"{name}:{number}", line


def _shown(written: Any, options: Namespace) -> str:
    if options.jsonl:
        return json.dumps(written, ensure_ascii=False)
    return (
        written if isinstance(written, str) else json.dumps(written, ensure_ascii=False, indent=2)
    )


def _both(messages: tuple[Message, ...]) -> _Conversation:
    return _Conversation(messages, messages)


# --- Reading --------------------------------------------------------------------------------


def read_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        HarmonyError: It is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HarmonyError(f"not JSON: {error}") from None


def api_module(name: str) -> Any:
    """The module for an API."""
    return import_module(f"...convert.{APIS[name]}", __name__)


# A field of each API that only responses have.
_IS_RESPONSE: Final[dict[str, Callable[[dict[str, Any]], bool]]] = {
    "chat": lambda body: "choices" in body,
    "responses": lambda body: "output" in body,
    "anthropic": lambda body: body.get("type") == "message",
}


def _read_api(text: str, options: Namespace) -> _Conversation:
    module = api_module(options.source)
    body = read_json(text)
    unsupported = "note" if options.note else "error"
    if isinstance(body, dict) and _IS_RESPONSE[options.source](body):
        return _both(module.read_response(body, unsupported=unsupported))
    request = module.read_request(body, current_date=options.current_date, unsupported=unsupported)
    return _Conversation(request.messages, request.client_messages(), request.notes)


def _read_harmony(text: str, _options: Namespace) -> _Conversation:
    return _both(tuple(messages_from_json(text)))


def _read_tokens(text: str, options: Namespace) -> _Conversation:
    role = None if options.role == "none" else options.role
    return _both(parse(token_ids(text), role=role).messages)


def _read_text(text: str, options: Namespace) -> _Conversation:
    role = None if options.role == "none" else options.role
    if options.jsonl:
        text = read_json(text)
        if not isinstance(text, str):
            raise HarmonyError("expected a string")
    return _both(parse_text(text.removesuffix("\n"), role=role).messages)


_READERS: Final[dict[str, Callable[[str, Namespace], _Conversation]]] = {
    **dict.fromkeys(APIS, _read_api),
    "harmony": _read_harmony,
    "tokens": _read_tokens,
    "text": _read_text,
}


# --- Writing --------------------------------------------------------------------------------


def _write_api(messages: tuple[Message, ...], options: Namespace) -> Any:
    return api_module(options.target).write_request(
        messages, model=options.model, max_tokens=options.max_tokens
    )


_WRITERS: Final[dict[str, Callable[[tuple[Message, ...], Namespace], Any]]] = {
    **dict.fromkeys(APIS, _write_api),
    "harmony": lambda messages, _: json.loads(messages_to_json(messages)),
    "tokens": lambda messages, _: render(messages),
    "text": lambda messages, _: render_text(render(messages)),
}
