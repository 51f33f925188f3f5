"""The header of a message, both ways: the one grammar.

    <|start|> author {part} <|message|>

    author   a role, `role:name`, or the full name of a tool
    part     ` to=` recipient       whom the message addresses
             <|channel|> channel    what it is for
             ` ` content type       one word, the last part
             <|constrain|> content type

The recipient may stand before the channel (recipient-first: openai-harmony 0.0.8 and the
model repository's chat template) or after it (channel-first: what the model itself writes);
reading accepts both. Every part may occur once.

Reading takes a header for a bag of such parts, keeps what it can make of it, and says what
was not as above: nothing that a model writes makes it fail.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from codecs import getincrementaldecoder
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Final, Literal, NamedTuple

from ..errors import InvalidMessageError
from ._messages import Channel, Header, Role
from ._problems import Problem, Span, problem
from ._vocabulary import (
    CHANNEL,
    CONSTRAIN,
    FIRST_SPECIAL,
    MESSAGE,
    SPECIAL_TOKEN_NAMES,
    START,
    decode_leniently,
    encode,
    ordinary_token_table,
)

HeaderOrder = Literal["recipient-first", "channel-first"]
"""Where the recipient stands in a rendered header: before the channel, or after it."""


def call_channel_problem(header: Header) -> str | None:
    """The code of the problem that a call has on its channel, or `None`.

    Functions are called on commentary, built-in tools on analysis or commentary.

    Args:
        header: The header of a call.
    """
    if header.channel == Channel.FINAL:
        return "tool_call_on_final"
    is_function = (header.recipient or "").startswith("functions.")
    return "tool_call_on_analysis" if header.channel == Channel.ANALYSIS and is_function else None


# --- Writing --------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def header_tokens(header: Header, order: HeaderOrder) -> tuple[int, ...]:
    """The tokens of a header, from `<|start|>` to `<|message|>`.

    Each piece is encoded by itself, as the reference does it, so that token boundaries fall
    at the edges of the pieces.

    Args:
        header: What to write.
        order: Where the recipient stands.

    Raises:
        InvalidMessageError: A piece holds a lone surrogate; the error names the field.
    """
    tokens = [START]
    if header.role is Role.TOOL:
        tokens += piece_tokens(header.name or "", "name")
    else:
        tokens += piece_tokens(header.role.value, "role")
        if header.name is not None:
            tokens += piece_tokens(f":{header.name}", "name")
    recipient: tuple[int, ...] = ()
    # "all" is the reference's word for nobody in particular; it is never written.
    if header.recipient is not None and header.recipient != "all":
        recipient = piece_tokens(f" to={header.recipient}", "recipient")
    channel: tuple[int, ...] = ()
    if header.channel is not None:
        channel = (CHANNEL, *piece_tokens(header.channel, "channel"))
    tokens += recipient + channel if order == "recipient-first" else channel + recipient
    if header.constrained:
        tokens += [*piece_tokens(" ", "content_type"), CONSTRAIN]
        tokens += piece_tokens(header.content_type or "", "content_type")
    elif header.content_type is not None:
        tokens += piece_tokens(f" {header.content_type}", "content_type")
    return (*tokens, MESSAGE)


@lru_cache(maxsize=4096)
def piece_tokens(text: str, field: str) -> tuple[int, ...]:
    """The tokens of one piece of a header. Headers differ, but are made of few pieces.

    Args:
        text: The piece.
        field: The field of the message from which it comes, for errors.

    Raises:
        InvalidMessageError: The piece holds a lone surrogate.
    """
    try:
        return tuple(encode(text))
    except InvalidMessageError as error:
        raise InvalidMessageError(error.reason, field=field) from None


# --- Reading: words with their places -------------------------------------------------------

# Words end at any blank: Unicode's White_Space.
_BLANK: Final = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_WORD: Final = re.compile(f"[^{_BLANK}]+")
_OTHER_BLANK: Final = re.compile(f"[{_BLANK.replace(' ', '')}]")


class _Section:
    """A stretch of text of a header: its beginning, or what follows a special token.

    Attributes:
        marker: `CHANNEL`, `CONSTRAIN`, or `None` for the beginning and for what follows a
            token that has no place in a header.
        position: The index in the header of its first token.
        text: The text; what is not UTF-8 in it is U+FFFD.
    """

    def __init__(
        self, marker: int | None, pieces: list[bytes], position: int, text: str | None = None
    ) -> None:
        self.marker = marker
        self.position = position
        self.text = b"".join(pieces).decode("utf-8", "replace") if text is None else text
        self._pieces = pieces
        self._ends: list[int] = []

    def upto(self, character: int) -> _Section:
        """The part before a character."""
        text = self.text[:character].rstrip(" ")
        return _Section(self.marker, self._pieces, self.position, text)

    @property
    def end(self) -> int:
        """One past the index of its last token."""
        return self.position + len(self._pieces)

    def token_at(self, character: int) -> int:
        """The index in the header of the token in which a character ends."""
        if not self._ends:
            decoder = getincrementaldecoder("utf-8")("replace")
            self._ends = list(accumulate(len(decoder.decode(p)) for p in self._pieces))
        return self.position + min(bisect_right(self._ends, character), len(self._pieces) - 1)

    def place(self, start: int, end: int) -> tuple[int, int]:
        """The tokens of some characters of the text, as indices in the header."""
        return self.token_at(start), self.token_at(end - 1) + 1

    @property
    def marker_place(self) -> tuple[int, int]:
        """The marker, as indices in the header."""
        return self.position - 1, self.position


class _Word(NamedTuple):
    """A word of a header.

    Attributes:
        text: The word.
        section: Where it stands.
        start: Its first character in the section.
        marked: Whether it is the first after the marker of its section.
    """

    text: str
    section: _Section
    start: int
    marked: bool = False

    @property
    def place(self) -> tuple[int, int]:
        """Its tokens, as indices in the header."""
        return self.section.place(self.start, self.start + len(self.text))


def _sections(tokens: Sequence[int]) -> tuple[list[_Section], list[int]]:
    """The stretches of text of a header, and the places of tokens that do not belong in it."""
    table = ordinary_token_table()
    sections: list[_Section] = []
    misplaced: list[int] = []
    marker: int | None = None
    start = 0
    for index, token in enumerate([*tokens, CHANNEL]):
        if 0 <= token < FIRST_SPECIAL:
            continue
        sections.append(_Section(marker, [table[t] for t in tokens[start:index]], start))
        start = index + 1
        marker = token if token in (CHANNEL, CONSTRAIN) else None
        if marker is None:
            misplaced.append(index)
    return sections, misplaced


def _words(sections: Iterable[_Section]) -> list[_Word]:
    words: list[_Word] = []
    for section in sections:
        marked = section.marker is not None
        for match in _WORD.finditer(section.text):
            word = _Word(match.group(), section, match.start(), marked)
            glued = word.text.find("to=") if marked and section.marker == CHANNEL else -1
            if glued > 0:
                words.append(word._replace(text=word.text[:glued]))
            if glued >= 0:
                word = _Word(word.text[glued:], section, word.start + glued)
            words.append(word)
            marked = False
    return words


# --- Reading: what the words mean -----------------------------------------------------------


class HeaderReading(NamedTuple):
    """A header as it was read.

    Attributes:
        header: What it says.
        problems: What is not as the grammar has it; their spans count from the first token
            of the header.
    """

    header: Header
    problems: tuple[Problem, ...]


_ROLES: Final = {role.value: role for role in Role}
# Tools that are addressed by a bare name; other tools' names have a namespace and a dot.
_BARE_TOOLS: Final = frozenset({"python", "browser"})
_CHANNELS: Final = {channel.value: channel for channel in Channel}
_CONTENT_TYPES: Final = frozenset({"json", "code"})


def read_header(tokens: Sequence[int], role: Role | None) -> HeaderReading:
    """Read a header, whatever it holds.

    Args:
        tokens: The tokens between `<|start|>` and `<|message|>`, both excluded.
        role: The role, where it was already given by the prompt; else the header names it.
    """
    sections, misplaced = _sections(tokens)
    reader = _Reader(role)
    for index in misplaced:
        name = SPECIAL_TOKEN_NAMES.get(tokens[index])
        code = "unknown_token" if name is None else "special_token_in_header"
        reader.report(code, (index, index + 1), name or str(tokens[index]))
    return reader.read(sections)


class _Reader:
    """Reads one header: takes the words one part after the other, and reports the rest.

    Of a part that occurs again the last counts: a model that corrects itself goes on writing.
    """

    def __init__(self, role: Role | None) -> None:
        self._role = role
        self._problems: dict[str, Problem] = {}
        self._words: list[_Word] = []

    def report(self, code: str, place: tuple[int, int], detail: str | None = None) -> None:
        """Note a problem; one for each code, from its first place to its last."""
        known = self._problems.get(code)
        if known is None:
            self._problems[code] = problem(code, *place, detail)
        else:
            span = Span(min(known.span.start, place[0]), max(known.span.end, place[1]))
            self._problems[code] = known._replace(span=span)

    def read(self, sections: list[_Section]) -> HeaderReading:
        """Read the sections of the header."""
        self._check_blanks(sections)
        self._words = _words(sections)
        role, name = self._author()
        channel, channel_word = self._channel(sections, role)
        recipient, recipient_word = self._recipient(channel_word, role)
        content_type, constrained = self._content_type(sections, recipient_word or channel_word)
        if self._words:
            first, last = self._words[0], self._words[-1]
            text = " ".join(word.text for word in self._words[:20])
            self.report("unexpected_header_text", (first.place[0], last.place[1]), text)
        header = Header(role, name, channel, recipient, content_type, constrained)
        return HeaderReading(header, tuple(self._problems.values()))

    def _check_blanks(self, sections: list[_Section]) -> None:
        """A header has one blank before a recipient, a content type and `<|constrain|>`."""
        for section, following in zip(sections, [*sections[1:], None], strict=True):
            text = section.text
            other = _OTHER_BLANK.search(text)
            ends = text.endswith(" ") and (following is None or following.marker != CONSTRAIN)
            begins = text.startswith(" ") and section.marker is not None
            if "\ufffd" in text:
                self.report("invalid_utf8", section.place(0, len(text)))
            if other is not None:
                self.report("header_whitespace", section.place(other.start(), other.end()))
            elif not text.strip(" "):
                continue
            elif ends:
                self.report("header_whitespace", section.place(len(text) - 1, len(text)))
            elif begins:
                self.report("header_whitespace", section.place(0, 1))

    # --- Who ---

    def _author(self) -> tuple[Role, str | None]:
        words = self._words
        first = words[0] if words and not words[0].marked else None
        if self._role is not None:
            # The role may be repeated; the prompt ended with it.
            if first is not None and first.text == self._role:
                words.pop(0)
            return self._role, None
        if first is None or first.text.startswith("to=") or first.text in _CHANNELS:
            self.report("missing_role", (0, 0))
            return Role.ASSISTANT, None
        words.pop(0)
        return self._author_named(first)

    def _author_named(self, word: _Word) -> tuple[Role, str | None]:
        text = word.text
        role = _ROLES.get(text)
        if role is not None:
            while self._words and self._words[0].text == text and not self._words[0].marked:
                self.report("role_normalized", self._words.pop(0).place, f"{text} {text}")
            return role, text if role is Role.TOOL else None
        prefix, colon, name = text.partition(":")
        if colon and prefix in _ROLES and prefix != Role.TOOL:
            return _ROLES[prefix], name
        # A tool's message starts with the tool's name. As in the reference, an unknown word
        # alone is no tool; unlike there, one that looks like a tool is.
        if "." in text or text in _BARE_TOOLS:
            return Role.TOOL, text
        if self._is_assistant(word):
            return Role.ASSISTANT, None
        folded = _ROLES.get(text.strip("<|>:,;").casefold())
        if folded is not None and folded is not Role.TOOL:
            self.report("role_normalized", word.place, text)
            return folded, None
        if all(_is_channel(other) for other in self._words):
            self.report("unknown_role", word.place, text)
        return Role.TOOL, text

    def _is_assistant(self, word: _Word) -> bool:
        """Whether a word is the assistant's role, glued to itself, a channel or a recipient."""
        rest = word.text.casefold()
        if not rest.startswith("assistant"):
            return False
        while rest.startswith("assistant"):
            rest = rest.removeprefix("assistant")
        if rest in _CHANNELS or rest.startswith("to="):
            start = word.start + len(word.text) - len(rest)
            self._words.insert(0, _Word(word.text[-len(rest) :], word.section, start))
        elif rest.strip("<|>:,;"):
            return False
        self.report("role_normalized", word.place, word.text)
        return True

    # --- What for ---

    def _channel(self, sections: list[_Section], role: Role) -> tuple[str | None, _Word | None]:
        """The channel, and the word after which a recipient or a content type may stand."""
        channels = [word for word in self._words if _is_channel(word)]
        named = {word.section.position for word in channels}
        for section in sections:
            if section.marker == CHANNEL and section.position not in named:
                self.report("empty_channel", section.marker_place)
        if not channels:
            return self._unmarked_channel() if role is Role.ASSISTANT else (None, None)
        word = channels[-1]
        if len(channels) > 1:
            places = (channels[0].place[0], word.place[0])
            self.report("repeated_channel", places, channels[0].text)
        self._words = [other for other in self._words if not _is_channel(other)]
        return self._known_channel(word), word

    def _unmarked_channel(self) -> tuple[str | None, _Word | None]:
        for position, word in enumerate(self._words):
            if word.text.startswith("to="):
                break
            if word.text in _CHANNELS and not word.marked:
                self.report("missing_channel_marker", word.place, word.text)
                return self._words.pop(position).text, word
        return None, None

    def _known_channel(self, word: _Word) -> str:
        text = word.text
        end = word.start + len(text)
        if any(w.section is word.section and w.start == end for w in self._words):
            self.report("unknown_channel_normalized", word.place, f"{text}to=")
        if text in _CHANNELS:
            return text
        channel = normalized_channel(text)
        if channel is None:
            self.report("unknown_channel", word.place, text)
            return text
        self.report("unknown_channel_normalized", word.place, text)
        return channel

    # --- To whom ---

    def _recipient(self, channel: _Word | None, role: Role) -> tuple[str | None, _Word | None]:
        found: list[tuple[str, _Word]] = []
        left: list[_Word] = []
        awaiting: _Word | None = None  # a to= whose name has not come
        for word in self._words:
            is_recipient = word.text.startswith("to=") and not word.marked
            if awaiting is not None and not word.marked and not is_recipient:
                self.report("header_whitespace", awaiting.place)
                found.append((word.text, awaiting))
                awaiting = None
                continue
            if awaiting is not None:
                self.report("empty_recipient", awaiting.place)
                awaiting = None
            if not is_recipient:
                left.append(word)
            elif word.text == "to=":
                awaiting = word
            else:
                found.append((word.text[3:], word))
        if awaiting is not None:
            self.report("empty_recipient", awaiting.place)
        self._words = left
        if "repeated_channel" in self._problems and channel is not None:
            # Given up together with the channel before which it stands.
            found = [f for f in found if f[0] != "assistant" or _is_after(f[1], channel)]
        if not found:
            return None, None
        name, word = found[-1]
        if len(found) > 1:
            alike = all(other == name for other, _ in found)
            code = "duplicate_recipient" if alike else "conflicting_recipient"
            self.report(code, (found[0][1].place[0], word.place[1]), found[0][0])
        if name == role == Role.ASSISTANT:
            self.report("self_recipient", word.place)
        return name, word

    # --- Of what kind ---

    def _content_type(
        self, sections: list[_Section], after: _Word | None
    ) -> tuple[str | None, bool]:
        constrained = self._constrained(sections)
        if constrained is not None:
            self._words.remove(constrained)
            return self._checked_type(constrained), True
        for position, word in enumerate(self._words):
            if after is None or _is_after(word, after):
                return self._checked_type(self._words.pop(position)), False
        for position, word in enumerate(self._words):
            if word.text in _CONTENT_TYPES:  # out of its place, but what else could it be
                self.report("unexpected_header_text", word.place, word.text)
                return self._words.pop(position).text, False
        return None, False

    def _constrained(self, sections: list[_Section]) -> _Word | None:
        """The word after the last `<|constrain|>` that has one."""
        found = None
        words = {id(word.section): word for word in self._words if word.marked}
        for before, section in pairwise(sections):
            if section.marker != CONSTRAIN:
                continue
            word = words.get(id(section))
            if word is None:
                self.report("empty_constrain", section.marker_place)
            else:
                found = word
            # Glued to a channel it is common, and harmless; to a recipient it hides its end.
            last = before.text.rpartition(" ")[2]
            if last.startswith("to=") and not last[-1].isspace():
                self.report("glued_constrain", section.marker_place)
        return found

    def _checked_type(self, word: _Word) -> str:
        if word.text not in _CONTENT_TYPES:
            self.report("unknown_content_type", word.place, word.text)
        return word.text


def _is_channel(word: _Word) -> bool:
    return word.marked and word.section.marker == CHANNEL


def _is_after(word: _Word, other: _Word) -> bool:
    return (word.section.position, word.start) > (other.section.position, other.start)


def normalized_channel(text: str) -> str | None:
    """The channel that is meant by a word that is none, or `None`.

    Args:
        text: The word: a channel in other letters, with something glued to it, or cut short.
    """
    folded = text.casefold()
    letters = folded.strip("".join(c for c in set(folded) if not c.isalpha()))
    for name in _CHANNELS:
        if letters.endswith(name):  # of two that are glued the last one counts
            return name
    for name in _CHANNELS:
        if letters.startswith(name) or (len(letters) >= 4 and name.startswith(letters)):
            return name
    return None


# --- Reading: a header that runs into its content -------------------------------------------


class UnmarkedBody(NamedTuple):
    """A header that no `<|message|>` ended, and the content that was found in it.

    Attributes:
        reading: What the header says.
        body: The content; `None` if there is none.
        body_start: The index of the first token of the content.
    """

    reading: HeaderReading
    body: str | None
    body_start: int


def read_unmarked(tokens: Sequence[int], role: Role | None, *, is_cut: bool) -> UnmarkedBody:
    """Read a header that was closed, or broke off, without `<|message|>`.

    The content begins at the first `{`, or at the first word that cannot be part of the
    header; without any sign of a header all is content.

    Args:
        tokens: The tokens after `<|start|>`.
        role: The role, where it was already given by the prompt.
        is_cut: Whether the input ended here: then a last word may be half a content type.
    """
    sections, _ = _sections(tokens)
    found = _body_place(sections, role, is_cut=is_cut)
    if found is None:
        return UnmarkedBody(_read_unmarked(sections, role), None, len(tokens))
    section, character = found
    reading = _read_unmarked(_upto(sections, section, character), role)
    body = section.text[character:] + decode_leniently(tokens[section.end :])
    start = section.token_at(character) if character or section.position else 0
    return UnmarkedBody(reading, body, start)


def _read_unmarked(sections: list[_Section], role: Role | None) -> HeaderReading:
    header, problems = _Reader(role).read(sections)
    if sections[-1].marker == CONSTRAIN:
        # All that follows the marker is what it constrains the content to.
        header = header._replace(content_type=sections[-1].text.strip() or None)
        words = ("unexpected_header_text", "unknown_content_type", "header_whitespace")
        problems = tuple(found for found in problems if found.code not in words)
    return HeaderReading(header, problems)


def _body_place(
    sections: list[_Section], role: Role | None, *, is_cut: bool
) -> tuple[_Section, int] | None:
    """The section and the character at which the content begins, or `None`."""
    markers = [index for index, section in enumerate(sections) if section.marker == CHANNEL]
    sections = sections[markers[-1] :] if markers else sections
    brace = next(((s, s.text.index("{")) for s in sections if "{" in s.text), None)
    words = _words(sections if brace is None else _upto(sections, *brace))
    has_signs = any(s.marker is not None for s in sections) or any(
        word.text.startswith("to=") for word in words
    )
    if not markers and words and _names_author(words[0].text, role):
        words = words[1:]
    elif not has_signs and role is None and (is_cut and len(words) < 2):
        return brace  # half a role
    elif not has_signs:
        return (sections[0], 0) if words or brace else None
    for position, word in enumerate(words):
        if word.marked or word.section.marker == CONSTRAIN or word.text.startswith("to="):
            continue
        if has_signs and word.text in _CONTENT_TYPES:
            continue
        is_half = has_signs and is_cut and brace is None and position == len(words) - 1
        return None if is_half else (word.section, word.start)
    return brace


def _upto(sections: list[_Section], last: _Section, character: int) -> list[_Section]:
    before = [section for section in sections if section.position < last.position]
    return [*before, last.upto(character)]


def _names_author(word: str, role: Role | None) -> bool:
    if role is not None:
        return word == role
    return word in _ROLES or "." in word or word.partition(":")[0] in _ROLES
