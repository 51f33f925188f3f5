"""Conversations to training examples: token ids, and the message and part of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import (
    Unpack,
)

from ._messages import Message
from ._render import (
    checked_messages,
    declares_functions,
    is_final,
    kept_messages,
    message_tokens,
    next_header,
    style_of,
)
from ._render_options import RenderKeywords, RenderOptions
from ._roles import Role
from ._vocabulary import MESSAGE, RETURN, START


class TokenPart(StrEnum):
    """The part of its message in which a token stands."""

    HEADER = "header"
    """From `<|start|>` to `<|message|>`."""
    CONTENT = "content"
    TERMINATOR = "terminator"
    """`<|end|>`, `<|call|>` or `<|return|>`."""


@dataclass(frozen=True)
class TrainingRendering:
    """A conversation as a training example.

    Attributes:
        tokens: Token ids.
        message_indices: For each token, the index of its message in the conversation given.
        parts: For each token, the part of the message in which it stands.
        messages: The conversation.
    """

    tokens: list[int]
    message_indices: list[int]
    parts: list[TokenPart]
    messages: tuple[Message, ...]

    def loss_mask(self, include: Callable[[Message, TokenPart], bool] | None = None) -> list[bool]:
        """For each token, whether it counts in the loss.

        Args:
            include: Decides by message and part. By default all that an assistant writes:
                every token of its messages, save the `<|start|>assistant` that opens its
                turn, which stands in the prompt.
        """
        if include is not None:
            chosen = {
                place: include(self.messages[place[0]], place[1])
                for place in dict.fromkeys(zip(self.message_indices, self.parts, strict=True))
            }
            return [chosen[p] for p in zip(self.message_indices, self.parts, strict=True)]
        mask = [self.messages[i].role is Role.ASSISTANT for i in self.message_indices]
        prompt = len(next_header(Role.ASSISTANT))
        for position, token in enumerate(self.tokens):
            opens = token == START and mask[position] and not (position and mask[position - 1])
            if opens:
                mask[position : position + prompt] = [False] * prompt
        return mask


def render_training(
    conversation: Iterable[Message],
    *,
    options: RenderOptions | None = None,
    **changes: Unpack[RenderKeywords],
) -> TrainingRendering:
    """Render a conversation as a training example.

    Like `render` without a next role, but a final answer at the end closes with
    `<|return|>`, the token at which the model shall stop.

    Args:
        conversation: The messages, oldest first.
        options: How to render.
        **changes: Options that differ from those: the fields of `RenderOptions`.

    Raises:
        InvalidMessageError: A message cannot be rendered; the error says which, and where.
        OptionError: An option has an unknown value.
        TypeError: An option has an unknown name.
    """
    chosen = RenderOptions.of(options, changes, "render_training")
    messages = checked_messages(conversation)
    style = style_of(chosen, declares_functions(messages))
    tokens: list[int] = []
    indices: list[int] = []
    parts: list[TokenPart] = []
    for index, message in kept_messages(messages, chosen.drop_analysis):
        rendered = message_tokens(message, style, index)
        length, header_length = len(rendered), rendered.index(MESSAGE) + 1
        tokens += rendered
        indices += [index] * length
        parts += [TokenPart.HEADER] * header_length
        parts += [TokenPart.CONTENT] * (length - header_length - 1)
        parts.append(TokenPart.TERMINATOR)
    if messages and is_final(messages[-1]):
        tokens[-1] = RETURN
    return TrainingRendering(tokens, indices, parts, messages)
