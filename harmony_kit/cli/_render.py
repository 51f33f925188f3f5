"""Render a conversation in JSON to token ids or text."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import get_args

from rich.console import Console

from ..convert.harmony import messages_from_json
from ..wire._header.writing import HeaderOrder
from ..wire._render import render, render_text
from ..wire._render_options import DropAnalysis, RenderOptions
from ..wire._roles import SchemaStyle
from ..wire._training import TokenPart, render_training
from ._files import add_input, read_input
from ._show import token_table


def add_arguments(parser: ArgumentParser) -> None:
    add_input(parser, "a conversation: messages in openai-harmony's JSON")
    parser.add_argument(
        "--mode",
        choices=["completion", "training", "plain"],
        default="completion",
        help="a prompt that the assistant completes (the default), a training example, or the "
        "conversation alone",
    )
    parser.add_argument("--text", action="store_true", help="print text instead of token ids")
    parser.add_argument(
        "--explain", action="store_true", help="print every token with its role in the message"
    )
    defaults = RenderOptions()
    parser.add_argument(
        "--drop-analysis",
        choices=get_args(DropAnalysis),
        default=defaults.drop_analysis,
        help="which reasoning is dropped: that of finished turns (the default), the same as in "
        "openai-harmony, or none",
    )
    parser.add_argument(
        "--header-order", choices=get_args(HeaderOrder), default=defaults.header_order
    )
    parser.add_argument(
        "--schema-style", choices=get_args(SchemaStyle), default=defaults.schema_style
    )


def main(options: Namespace) -> int:
    messages = messages_from_json(read_input(options.file))
    style = RenderOptions(
        drop_analysis=options.drop_analysis,
        header_order=options.header_order,
        schema_style=options.schema_style,
    )
    training = render_training(messages, options=style)
    if options.mode == "training":
        tokens = training.tokens
    else:
        next_role = "assistant" if options.mode == "completion" else None
        tokens = render(messages, next_role=next_role, options=style)
    if options.explain:
        rest = len(tokens) - len(training.tokens)
        indices = [*training.message_indices, *[None] * rest]
        parts = [*training.parts, *[TokenPart.HEADER] * rest]
        Console().print(token_table(tokens, indices, parts))
    elif options.text:
        print(render_text(tokens))
    else:
        print(json.dumps(tokens))
    return 0
