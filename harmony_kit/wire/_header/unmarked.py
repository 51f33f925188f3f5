"""Reads headers that run into their content without `<|message|>`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from .._roles import Role
from .._vocabulary import (
    CHANNEL,
    CONSTRAIN,
    decode_leniently,
)
from .reading import CONTENT_TYPES, ROLES, HeaderReader, HeaderReading, read_header
from .words import Section, Word, read_sections, read_words

# How many words at the end of a text between messages can be a header.
_MOST_WORDS: Final = 8
# The problems of a header without its markers; one with others is no header, but text.
_OF_LOST_MARKERS: Final = frozenset(
    {
        "header_whitespace",
        "missing_channel_marker",
        "missing_role",
        "role_normalized",
        "unexpected_header_text",
        "unknown_channel_normalized",
        "unknown_content_type",
    }
)


def header_at_the_end(tokens: Sequence[int], *, has_channel: bool) -> int | None:
    """Where a header without markers begins at the end of a text; `None` if there is none.

    A header names a channel or a recipient. Of words before it that are none of its parts, none
    is taken; of others among them, as many as a header can have.

    Args:
        tokens: The tokens between a terminator and `<|message|>` or another marker.
        has_channel: Whether `<|channel|>` follows: then only a recipient can be before it.
    """
    sections, _ = read_sections(tokens)
    words = read_words(sections)[-_MOST_WORDS:]
    for word in words:
        if not _HEADER_WORD.fullmatch(word.text) or not word.text:
            continue
        start = word.place[0]
        role = None if word.text.casefold().startswith("assistant") else Role.ASSISTANT
        reading = read_header(tokens[start:], role)
        header = reading.header
        if header.role is not Role.ASSISTANT:
            continue
        if header.recipient is None and (has_channel or header.channel is None):
            continue
        if all(found.code in _OF_LOST_MARKERS for found in reading.problems):
            return start
    return None


_HEADER_WORD: Final = re.compile(
    r"(?:assistant)*(?:analysis|commentary|final|to|to=.*|(?:functions|browser)\..*)?",
    re.IGNORECASE | re.DOTALL,
)


class UnmarkedBody(NamedTuple):
    """A header without `<|message|>` and the content found in it.

    Attributes:
        reading: The header.
        body: The content, or `None`.
        body_start: The index of the first token of the content.
    """

    reading: HeaderReading
    body: str | None
    body_start: int


def read_unmarked(tokens: Sequence[int], role: Role | None, *, is_cut: bool) -> UnmarkedBody:
    """Read a header that ends without `<|message|>`.

    The content begins at the first `{`, or at the first word that cannot be part of the header. If
    nothing looks like a header, everything is content.

    Args:
        tokens: The tokens after `<|start|>`.
        role: The role, if the prompt has given it.
        is_cut: Whether the input ends here: then the last word may be a truncated content type.
    """
    sections, _ = read_sections(tokens)
    found = _body_place(sections, role, is_cut=is_cut)
    if found is None:
        return UnmarkedBody(_read_unmarked(sections, role), None, len(tokens))
    section, character = found
    reading = _read_unmarked(_upto(sections, section, character), role)
    body = section.text[character:] + decode_leniently(tokens[section.end :])
    start = section.token_at(character) if character or section.position else 0
    return UnmarkedBody(reading, body, start)


def _read_unmarked(sections: list[Section], role: Role | None) -> HeaderReading:
    header, problems = HeaderReader(role).read(sections)
    if sections[-1].marker == CONSTRAIN:
        # All words after <|constrain|> are the content type.
        header = header._replace(content_type=sections[-1].text.strip() or None)
        words = ("unexpected_header_text", "unknown_content_type", "header_whitespace")
        problems = tuple(found for found in problems if found.code not in words)
    return HeaderReading(header, problems)


def _body_place(
    sections: list[Section], role: Role | None, *, is_cut: bool
) -> tuple[Section, int] | None:
    """The section and the index of the character in it at which the content begins, or `None`."""
    markers = [index for index, section in enumerate(sections) if section.marker == CHANNEL]
    sections = sections[markers[-1] :] if markers else sections
    whole = {section.position: section for section in sections}
    brace = next(((s, s.text.index("{")) for s in sections if "{" in s.text), None)
    words = read_words(sections if brace is None else _upto(sections, *brace))
    has_signs = any(s.marker is not None for s in sections) or any(
        word.text.startswith("to=") for word in words
    )
    if not markers and words and _names_author(words[0].text, role):
        words = words[1:]
    elif not has_signs and role is None and (is_cut and len(words) < 2):
        return brace  # a truncated role
    elif not has_signs:
        return (sections[0], 0) if words or brace else None
    for position, word in enumerate(words):
        glued = _content_glued_to(word)
        if glued is not None:
            return whole[word.section.position], word.start + glued
        if word.marked or word.section.marker == CONSTRAIN or word.text.startswith("to="):
            continue
        if has_signs and word.text in CONTENT_TYPES:
            continue
        is_half = has_signs and is_cut and brace is None and position == len(words) - 1
        return None if is_half else (whole[word.section.position], word.start)
    return brace


# A channel, and behind it more than punctuation and the names of channels.
_GLUED_CONTENT: Final = re.compile(
    r"(?:analysis|commentary|final)(?=[^a-z:])"
    r"(?!(?:[\W_]|analysis|commentary|final)*+\Z)",
    re.IGNORECASE,
)


def _content_glued_to(word: Word) -> int | None:
    """Where in a word a content begins that is glued to its channel; `None` for none."""
    if not word.marked or word.section.marker != CHANNEL:
        return None
    channel = _GLUED_CONTENT.match(word.text)
    return None if channel is None or channel.end() == len(word.text) else channel.end()


def _upto(sections: list[Section], last: Section, character: int) -> list[Section]:
    before = [section for section in sections if section.position < last.position]
    return [*before, last.upto(character)]


def _names_author(word: str, role: Role | None) -> bool:
    if role is not None:
        return word == role
    return word in ROLES or "." in word or word.partition(":")[0] in ROLES
