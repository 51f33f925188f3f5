"""The fast path for whole messages that have only a header, text and a terminator."""

from __future__ import annotations

from typing import Final

from ._chunks import SPECIAL_BYTE, Chunk
from ._events import TERMINATORS, MessageSpan, plain_message
from ._header_cache import HeaderCache
from ._message_ids import PACKED_END
from ._turn import Turn
from ._vocabulary import CHANNEL, CONSTRAIN, MESSAGE, RETURN, START

_WITHIN_HEADER: Final = frozenset({CHANNEL, CONSTRAIN})

_make = tuple.__new__


def read_plain_messages(
    chunk: Chunk, begin: int, offset: int, turn: Turn, headers: HeaderCache, *, remembers: bool
) -> int:
    """Add the plain messages at an index of a chunk to a turn; returns the index after them.

    The scanner reads all other messages; it would read these to the same result in three times
    the time.

    Args:
        chunk: The tokens.
        begin: The index.
        offset: The position of the chunk's first token in the input.
        turn: Judges the messages; one that it refuses ends the run.
        headers: The headers read before.
        remembers: Whether messages remember their ids.
    """
    # Long, and almost without calls, because parsing many messages spends its time here.
    tokens, pieces, ids = chunk.tokens, chunk.pieces, chunk.packed
    find, known, add_plain = chunk.marks.find, headers.plain, turn.add_plain
    append, simple, terminator_of = turn.parsed.append, turn.is_simple, TERMINATORS.get
    length = len(tokens)
    # What `pack_tokens` appends: a completion's ids were all generated, except for the `<|end|>`
    # that replaces a last `<|return|>`.
    suffix = b"\0" if turn.is_completion else b""
    while begin < length and tokens[begin] == START:
        mark = find(SPECIAL_BYTE, begin + 1)
        while mark < length and (tokens[mark] in _WITHIN_HEADER or pieces[mark]):
            mark = find(SPECIAL_BYTE, mark + 1)
        if mark >= length or tokens[mark] != MESSAGE:
            break
        content = mark + 1
        end = find(SPECIAL_BYTE, content)
        while end < length and pieces[end]:
            end = find(SPECIAL_BYTE, end + 1)
        if end >= length:
            break
        token = tokens[end]
        terminator = terminator_of(token)
        key = ids[4 * begin : 4 * mark]
        header = known.get(key) or headers.read_plain(key, tokens[begin + 1 : mark])
        if terminator is None or header is None:
            break
        try:
            text = b"".join(pieces[content:end]).decode()
        except UnicodeDecodeError:
            break
        after = end + 1
        edges = (begin, content, end, after)
        if offset:
            edges = (begin + offset, content + offset, end + offset, after + offset)
        remembered = None
        if remembers:
            remembered = ids[4 * begin : 4 * after]
            if token == RETURN:
                remembered = remembered[:-4] + PACKED_END + (suffix and b"\1")
            elif suffix:
                remembered += suffix
        parsed = plain_message(header, text, remembered, _make(MessageSpan, edges), terminator)
        if simple:
            append(parsed)
        elif not add_plain(parsed):
            break
        begin = after
    return begin
