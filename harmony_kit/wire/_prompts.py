"""Extends a prompt by its completion and new messages, without tokenizing the old ones again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, Unpack

from ..errors import OptionError
from ._events import Completion, ParsedMessage
from ._messages import Message
from ._parser import parse
from ._problems import Span
from ._render import Prompt, joined_spans, kept_messages, next_header, render_prompt
from ._render_options import RenderKeywords, RenderOptions
from ._roles import Role
from ._vocabulary import START


def extend(
    prompt: Prompt | Sequence[int],
    completion: Sequence[int],
    new_messages: Iterable[Message] = (),
    *,
    next_role: Role | str | None = Role.ASSISTANT,
    options: RenderOptions | None = None,
    **changes: Unpack[RenderKeywords],
) -> Prompt:
    """The next prompt: the previous prompt, its completion, and new messages.

    It begins with the ids of the prompt and the completion, so that an engine finds them in its
    prefix cache and a trainer gets the sampled ids. A truncated completion is closed by a
    terminator that was not sampled, and a last `<|return|>` is replaced by `<|end|>`, as in every
    history. `render` returns the same for the same messages if they remember their tokens.

    `Prompt.extends` is false if ids could not be kept: if reasoning of a finished turn is dropped
    (`drop_analysis="never"` keeps it), a call is incomplete, or messages had to be repaired and
    are rendered again.

    Args:
        prompt: The prompt, which ends with `<|start|>assistant` or with a prefill after it; a
            `Prompt` also knows which of its ids were sampled.
        completion: Token ids that the model generated, including the stop token if there is one.
        new_messages: The messages that follow, such as the results of tools.
        next_role: The role of the message that the model generates next, as for `render`.
        options: How to render.
        **changes: Fields of `RenderOptions` that differ from `options`.

    Returns:
        The token ids, and which of them were sampled.

    Raises:
        InvalidMessageError: A new message cannot be rendered; the error names it.
        OptionError: The prompt does not end with a message of the assistant, or is not well-formed;
            or an option has an unknown value.
        TypeError: An option has an unknown name.

    Example:
        >>> from harmony_kit import encode_with_special, render, user
        >>> prompt = render([user("What time is it?")])
        >>> completion = encode_with_special(
        ...     "<|channel|>commentary to=functions.clock<|message|>{}<|call|>"
        ... )
        >>> result = Message("tool", "12:00", name="functions.clock", recipient="assistant")
        >>> following = extend(prompt, completion, [result])
        >>> following.tokens[: len(prompt) + len(completion)] == prompt + completion
        True
        >>> following.extends, following.sampled == ((len(prompt), len(prompt + completion)),)
        (True, True)
    """
    chosen = RenderOptions.of(options, changes, "extend")
    new = tuple(new_messages)
    given = _Given(prompt, completion)
    finishes = given.may_finish_a_turn or any(message.channel == "final" for message in new)
    if chosen.verbatim and (chosen.drop_analysis == "never" or not finishes):
        closed = given.closed()
        if closed is not None:
            following = render_prompt(new, next_role=next_role, options=chosen)
            return _joined(closed, following)
    return given.rendered_anew(new, next_role, chosen)


def _joined(first: Prompt, following: Prompt) -> Prompt:
    offset = len(first.tokens)
    sampled = [Span(start + offset, end + offset) for start, end in following.sampled]
    spans = joined_spans([*first.sampled, *sampled])
    return Prompt(first.tokens + following.tokens, spans, extends=True)


_ASSISTANT: Final = next_header(Role.ASSISTANT)


class _Piece(NamedTuple):
    """A message of a prompt or a completion, with its ids."""

    message: Message
    tokens: Sequence[int]
    sampled: tuple[Span, ...]


class _Given:
    """A prompt and its completion, read."""

    def __init__(self, prompt: Prompt | Sequence[int], completion: Sequence[int]) -> None:
        if isinstance(prompt, Prompt):
            self._prompt, self._sampled = prompt.tokens, prompt.sampled
        else:
            self._prompt, self._sampled = list(prompt), ()
        self._completion = list(completion)
        self._opening = _opening(self._prompt)
        # The model continued the message that is already in the prompt.
        self._prefill = self._prompt[self._opening + len(_ASSISTANT) :]
        self._read: Completion = parse([*self._prefill, *self._completion])

    @property
    def may_finish_a_turn(self) -> bool:
        """Whether there is an answer, after which reasoning may be dropped."""
        return any(parsed.message.channel == "final" for parsed in self._read.turn)

    def closed(self) -> Prompt | None:
        """The prompt and its completion, closed; `None` if the ids cannot all be kept."""
        turn = self._read.turn
        has_rest = len(turn) != len(self._read.parsed)
        if not turn or has_rest or any(found.outside for found in self._read.stray):
            return None
        if not all(map(_can_stay, turn)):
            return None
        tokens = [*self._prompt, *self._completion]
        last = turn[-1].message.tokens
        assert last is not None
        added = last.ids[last.sampled_end :]
        if added and turn[-1].terminator is not None:
            tokens.pop()  # <|return|>
        end = len(tokens)
        sampled = joined_spans([*self._sampled, Span(len(self._prompt), end)])
        return Prompt([*tokens, *added], sampled)

    def rendered_anew(
        self, new: Sequence[Message], next_role: Role | str | None, options: RenderOptions
    ) -> Prompt:
        """The prompt of all messages, with the tokens of those that can keep them."""
        pieces = [*self._of_prompt(), *self._of_completion(options)]
        messages = [*(piece.message for piece in pieces), *new]
        kept = {index for index, _ in kept_messages(messages, options.drop_analysis)}
        tokens: list[int] = []
        sampled: list[Span] = []
        for index, piece in enumerate(pieces):
            if index in kept:
                offset = len(tokens)
                sampled += [Span(start + offset, end + offset) for start, end in piece.sampled]
                tokens += piece.tokens
        following = render_prompt(new, next_role=next_role, options=options)
        joined = _joined(Prompt(tokens, tuple(sampled)), following)
        sent = [*self._prompt, *self._completion]
        if self._read.stop == "<|return|>":
            sent = sent[:-1]
        return Prompt(joined.tokens, joined.sampled, joined.tokens[: len(sent)] == sent)

    def _of_prompt(self) -> list[_Piece]:
        before = self._prompt[: self._opening]
        read = parse(before, role=None)
        if read.problems:
            found = read.problems[0]
            raise OptionError(
                f"not well-formed at token {found.span.start}: {found.message}", option="prompt"
            )
        pieces = []
        spans = list(reversed(self._sampled))
        for parsed in read.parsed:
            start, _, _, end = parsed.span
            sampled = []
            while spans and spans[-1].start < end:
                first, last = spans.pop()
                sampled.append(Span(first - start, min(last, end) - start))
                if last > end:
                    spans.append(Span(end, last))
            pieces.append(_Piece(parsed.message, before[start:end], tuple(sampled)))
        return pieces

    def _of_completion(self, options: RenderOptions) -> list[_Piece]:
        pieces = []
        kept = replace(options, drop_analysis="never")
        prefill = len(self._prefill)
        for parsed in self._read.turn:
            if not parsed.header.is_call or parsed.is_whole:
                rendered = render_prompt([parsed.message], next_role=None, options=kept)
                sampled = tuple(Span(start + prefill, end) for start, end in rendered.sampled)
                pieces.append(_Piece(parsed.message, rendered.tokens, sampled))
            prefill = 0
        return pieces


def _opening(prompt: Sequence[int]) -> int:
    """The index at which the assistant's message at the end of a prompt begins."""
    for index in range(len(prompt) - 1, -1, -1):
        if prompt[index] == START:
            if list(prompt[index : index + len(_ASSISTANT)]) == _ASSISTANT:
                return index
            break
    raise OptionError(
        "expected a prompt that ends with <|start|>assistant or with a prefill after it",
        option="prompt",
    )


def _can_stay(parsed: ParsedMessage) -> bool:
    """Whether a message of a completion keeps the ids that the model generated."""
    is_allowed = not parsed.header.is_call or parsed.is_whole
    return is_allowed and parsed.message.tokens is not None
