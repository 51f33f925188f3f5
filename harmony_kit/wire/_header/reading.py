"""Reads headers: finds role, channel, recipient and content type in the words of a header."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from .._messages import Header
from .._problems import Problem, Span, problem
from .._roles import FUNCTIONS, Channel, Role
from .._vocabulary import (
    CHANNEL,
    CONSTRAIN,
    SPECIAL_TOKEN_NAMES,
)
from .words import OTHER_BLANK, Section, Word, read_sections, read_words


def call_channel_problem(header: Header) -> str | None:
    """The code of the problem with the channel of a call, or `None`.

    Functions are called on commentary, built-in tools on analysis or commentary.
    """
    if header.channel == Channel.FINAL:
        return "tool_call_on_final"
    is_function = (header.recipient or "").startswith("functions.")
    return "tool_call_on_analysis" if header.channel == Channel.ANALYSIS and is_function else None


class HeaderReading(NamedTuple):
    """The result of reading a header.

    Attributes:
        header: The header.
        problems: Deviations from the grammar; their spans count from the header's first token.
    """

    header: Header
    problems: tuple[Problem, ...]


ROLES: Final = {role.value: role for role in Role}
# Tools that are addressed by a bare name; the names of others have a namespace and a dot.
_BARE_TOOLS: Final = frozenset({"python", "browser"})
_CHANNELS: Final = {channel.value: channel for channel in Channel}
# A tool's name and a channel where the channel belongs, with dots for what was between them.
_TOOL_AND_CHANNEL: Final = re.compile(
    r"((?:functions|browser)\.[\w-]+?)[.\s]*(analysis|commentary|final)"
)
_NAMESPACES: Final = ("to=functions.", "to=browser.")
_HALF_NAMES: Final = frozenset({"to=", f"to={FUNCTIONS}", *_NAMESPACES})
# What comes after a recipient, and is no part of its name.
_AFTER_RECIPIENT: Final = frozenset({"json", "code", *_CHANNELS})
CONTENT_TYPES: Final = frozenset({"json", "code"})


def read_header(tokens: Sequence[int], role: Role | None) -> HeaderReading:
    """Read a header; never raises.

    Args:
        tokens: The tokens between `<|start|>` and `<|message|>`, both excluded.
        role: The role, if the prompt has given it; else the header names it.
    """
    sections, misplaced = read_sections(tokens)
    reader = HeaderReader(role)
    for index in misplaced:
        name = SPECIAL_TOKEN_NAMES.get(tokens[index])
        code = "unknown_token" if name is None else "special_token_in_header"
        reader.report(code, (index, index + 1), name or str(tokens[index]))
    return reader.read(sections)


class HeaderReader:
    """Reads one header: takes out the words of each field in turn, and reports those left.

    If a field occurs twice, the last one counts, since a model can correct itself only by
    generating more.
    """

    def __init__(self, role: Role | None) -> None:
        self._role = role
        self._problems: dict[str, Problem] = {}
        self._words: list[Word] = []

    def report(self, code: str, place: tuple[int, int], detail: str | None = None) -> None:
        """Note a problem; those of one code become one, which spans them all."""
        known = self._problems.get(code)
        if known is None:
            self._problems[code] = problem(code, *place, detail)
        else:
            span = Span(min(known.span.start, place[0]), max(known.span.end, place[1]))
            self._problems[code] = known._replace(span=span)

    def read(self, sections: list[Section]) -> HeaderReading:
        """Read the sections of the header."""
        self._check_blanks(sections)
        self._words = read_words(sections)
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

    def _check_blanks(self, sections: list[Section]) -> None:
        """Only one space is allowed before a recipient, a content type and `<|constrain|>`."""
        for section, following in zip(sections, [*sections[1:], None], strict=True):
            text = section.text
            other = OTHER_BLANK.search(text)
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

    # --- Role and name ---

    def _author(self) -> tuple[Role, str | None]:
        words = self._words
        first = words[0] if words and not words[0].marked else None
        if self._role is not None:
            # The header may repeat the role with which the prompt ended.
            if first is not None and first.text == self._role:
                words.pop(0)
            return self._role, None
        if first is None or first.text.startswith("to=") or first.text in _CHANNELS:
            self.report("missing_role", (0, 0))
            return Role.ASSISTANT, None
        words.pop(0)
        return self._author_named(first)

    def _author_named(self, word: Word) -> tuple[Role, str | None]:
        text = word.text
        role = ROLES.get(text)
        if role is not None:
            while self._words and self._words[0].text == text and not self._words[0].marked:
                self.report("role_normalized", self._words.pop(0).place, f"{text} {text}")
            return role, text if role is Role.TOOL else None
        prefix, colon, name = text.partition(":")
        if colon and prefix in ROLES and prefix != Role.TOOL:
            return ROLES[prefix], name
        # A tool's message starts with the tool's name. As in the reference, an unknown word alone
        # is not a tool; unlike there, a word that looks like a tool's name is one.
        if "." in text or text in _BARE_TOOLS:
            return Role.TOOL, text
        if self._is_assistant(word):
            return Role.ASSISTANT, None
        folded = ROLES.get(text.strip("<|>:,;").casefold())
        if folded is not None and folded is not Role.TOOL:
            self.report("role_normalized", word.place, text)
            return folded, None
        if all(_is_channel(other) for other in self._words):
            self.report("unknown_role", word.place, text)
        return Role.TOOL, text

    def _is_assistant(self, word: Word) -> bool:
        """Whether a word is `assistant`, possibly glued to itself, a channel or a recipient."""
        rest = word.text.casefold()
        if not rest.startswith("assistant"):
            return False
        while rest.startswith("assistant"):
            rest = rest.removeprefix("assistant")
        if rest in _CHANNELS or rest.startswith("to="):
            start = word.start + len(word.text) - len(rest)
            self._words.insert(0, Word(word.text[-len(rest) :], word.section, start))
        elif rest.strip("<|>:,;"):
            return False
        self.report("role_normalized", word.place, word.text)
        return True

    # --- Channel ---

    def _channel(self, sections: list[Section], role: Role) -> tuple[str | None, Word | None]:
        """The channel, and the word that names it."""
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
        if role is Role.ASSISTANT:
            if word.text.casefold() in ROLES:
                return self._channel_after_role(word), word
            tool = _TOOL_AND_CHANNEL.fullmatch(word.text)
            if tool is not None:
                self.report("unknown_channel_normalized", word.place, word.text)
                self._words.insert(0, Word(f"to={tool[1]}", word.section, word.start))
                return tool[2], word
        return self._known_channel(word), word

    def _channel_after_role(self, role: Word) -> str | None:
        """The channel where a role has its place: the next word, if that is one."""
        self.report("unknown_channel_normalized", role.place, role.text)
        following = self._words[0] if self._words else None
        if following is None or following.section is not role.section:
            return None
        channel = normalized_channel(following.text)
        if channel is not None and not following.text.startswith("to="):
            self._words.pop(0)
            return channel
        return None

    def _unmarked_channel(self) -> tuple[str | None, Word | None]:
        for position, word in enumerate(self._words):
            if word.text.startswith("to="):
                break
            if word.text in _CHANNELS and not word.marked:
                self.report("missing_channel_marker", word.place, word.text)
                return self._words.pop(position).text, word
        return None, None

    def _known_channel(self, word: Word) -> str:
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

    # --- Recipient ---

    def _recipient(self, channel: Word | None, role: Role) -> tuple[str | None, Word | None]:
        found: list[tuple[str, Word]] = []
        left: list[Word] = []
        awaiting: Word | None = None  # a to= without its name so far
        for word in self._with_whole_recipients(role):
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
            # Like the earlier channels, to=assistant before the last channel is discarded.
            found = [f for f in found if f[0] != "assistant" or _is_after(f[1], channel)]
        if not found:
            return None, None
        name, word = found[-1]
        name = self._without_quotes(name, word)
        if len(found) > 1:
            alike = all(other == name for other, _ in found)
            code = "duplicate_recipient" if alike else "conflicting_recipient"
            self.report(code, (found[0][1].place[0], word.place[1]), found[0][0])
        if name == role == Role.ASSISTANT:
            self.report("self_recipient", word.place)
        return name, word

    def _with_whole_recipients(self, role: Role) -> list[Word]:
        """The words, with the parts of a split `to=` and its name joined."""
        words: list[Word] = []
        for word in self._words:
            before = words[-1] if words and not word.marked else None
            if before is not None and self._belongs_to(before, word, role):
                self.report("header_whitespace", (before.place[0], word.place[1]))
                joint = "." if before.text == f"to={FUNCTIONS}" else ""
                words[-1] = before._replace(text=f"{before.text}{joint}{word.text}")
            else:
                words.append(word)
        return words

    def _belongs_to(self, before: Word, word: Word, role: Role) -> bool:
        """Whether a word continues a recipient that was split: after `to`, `=` or half a name."""
        text, after = before.text, word.text
        if before.marked or word.section is not before.section or after in _AFTER_RECIPIENT:
            return False
        if text == "to":
            return after.startswith("=")
        if not text.startswith("to=") or role is not Role.ASSISTANT or after.startswith("to="):
            return False
        if text in _HALF_NAMES:
            return True
        return text.startswith(_NAMESPACES) and after.startswith(("_", "."))

    def _without_quotes(self, name: str, word: Word) -> str:
        bare = name.strip("\"'`")
        if bare == name or not bare:
            return name
        self.report("unexpected_header_text", word.place, name)
        return bare

    # --- Content type ---

    def _content_type(self, sections: list[Section], after: Word | None) -> tuple[str | None, bool]:
        constrained = self._constrained(sections)
        if constrained is not None:
            self._words.remove(constrained)
            return self._checked_type(constrained), True
        for position, word in enumerate(self._words):
            if after is None or _is_after(word, after):
                return self._checked_type(self._words.pop(position)), False
        for position, word in enumerate(self._words):
            if word.text in CONTENT_TYPES:  # misplaced, but unambiguous
                self.report("unexpected_header_text", word.place, word.text)
                return self._words.pop(position).text, False
        return None, False

    def _constrained(self, sections: list[Section]) -> Word | None:
        """The word after the last `<|constrain|>` that is followed by one."""
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
            # Glued to a channel it is common and harmless; glued to a recipient it obscures a name.
            last = before.text.rpartition(" ")[2]
            if last.startswith("to=") and not last[-1].isspace():
                self.report("glued_constrain", section.marker_place)
        return found

    def _checked_type(self, word: Word) -> str:
        if word.text not in CONTENT_TYPES:
            self.report("unknown_content_type", word.place, word.text)
        return word.text


def _is_channel(word: Word) -> bool:
    return word.marked and word.section.marker == CHANNEL


def _is_after(word: Word, other: Word) -> bool:
    return (word.section.position, word.start) > (other.section.position, other.start)


def normalized_channel(text: str) -> str | None:
    """The channel meant by a misspelled one, or `None`.

    Args:
        text: A channel in another case, with other text glued to it, or truncated.
    """
    folded = text.casefold()
    letters = folded.strip("".join(c for c in set(folded) if not c.isalpha()))
    for name in _CHANNELS:
        if letters.endswith(name):  # if two are glued together, the last one counts
            return name
    for name in _CHANNELS:
        if letters.startswith(name) or (len(letters) >= 4 and name.startswith(letters)):
            return name
    return None
