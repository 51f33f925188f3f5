"""Renders training examples: token ids, with the message and the part that each belongs to."""

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
    """The part of a message that a token belongs to."""

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
        message_indices: For each token, the index in `messages` of its message.
        parts: For each token, the part of the message that it belongs to.
        messages: The conversation, including messages that were dropped from the rendering.
    """

    tokens: list[int]
    message_indices: list[int]
    parts: list[TokenPart]
    messages: tuple[Message, ...]

    def loss_mask(self, include: Callable[[Message, TokenPart], bool] | None = None) -> list[bool]:
        """For each token, whether it counts in the loss.

        Args:
            include: Returns whether the tokens of a part of a message count. By default, all
                tokens count that the assistant generates: those of its messages, except the
                `<|start|>assistant` at the start of its turn, which is part of the prompt.

        Returns:
            One bool per token.

        Example:
            >>> rendering = render_training([Message("user", "Hi"), Message("assistant", "Hey")])
            >>> sum(rendering.loss_mask())  # <|message|>, Hey and <|end|>
            3
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

    This is `render` without a next role, except that a final answer at the end is closed by
    `<|return|>`, the stop token that the model must learn.

    Args:
        conversation: The messages, oldest first.
        options: How to render.
        **changes: Fields of `RenderOptions` that differ from `options`.

    Returns:
        The token ids, with the message and part of each.

    Raises:
        InvalidMessageError: A message cannot be rendered; the error names it and the field.
        OptionError: An option has an unknown value.
        TypeError: An option has an unknown name.

    Example:
        >>> from harmony_kit.wire import render_text
        >>> rendering = render_training([Message("assistant", "Hey", channel="final")])
        >>> render_text(rendering.tokens)
        '<|start|>assistant<|channel|>final<|message|>Hey<|return|>'
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
