"""Reads headers that run into their content without `<|message|>`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .._roles import Role
from .._vocabulary import (
    CHANNEL,
    CONSTRAIN,
    decode_leniently,
)
from .reading import CONTENT_TYPES, ROLES, HeaderReader, HeaderReading
from .words import Section, read_sections, read_words


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
        if word.marked or word.section.marker == CONSTRAIN or word.text.startswith("to="):
            continue
        if has_signs and word.text in CONTENT_TYPES:
            continue
        is_half = has_signs and is_cut and brace is None and position == len(words) - 1
        return None if is_half else (word.section, word.start)
    return brace


def _upto(sections: list[Section], last: Section, character: int) -> list[Section]:
    before = [section for section in sections if section.position < last.position]
    return [*before, last.upto(character)]


def _names_author(word: str, role: Role | None) -> bool:
    if role is not None:
        return word == role
    return word in ROLES or "." in word or word.partition(":")[0] in ROLES
