"""The output of a cell as text for the model."""

from __future__ import annotations

import re
from base64 import b64decode
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

_ANSI: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_MOST_FRAMES: Final = 8
_OBJECT_OF_DISPLAY: Final = re.compile(r"<IPython\.core\.display\.\w+ object>\Z")
_TYPES_OF_TEXT: Final = ("text/markdown", "text/latex", "application/json", "text/html")
_ENDINGS: Final = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/svg+xml": "svg",
    "application/pdf": "pdf",
}


class CellOutput:
    """Collects the output of a cell; long output keeps its start and end.

    Args:
        limit: The maximum number of characters.
        files: The folder for images.
    """

    def __init__(self, limit: int, files: ImageFolder) -> None:
        self._room = limit - limit // 2
        self._tail_size = limit // 2
        self._files = files
        self._head: list[str] = []
        self._tail: deque[str] = deque()
        self._tail_length = 0
        self._left_out = 0
        self._at_line_start = True

    def take(self, kind: str, content: Mapping[str, Any]) -> None:
        """Process output published by the kernel."""
        left_out = content.get("left_out", {})
        if kind == "stream":
            self._add_cut(_without_written_over(content["text"]), left_out.get("text"))
        elif kind == "error":
            text, cut = _error_text(content)
            self._add_block(text, cut)
        elif kind in ("execute_result", "display_data", "update_display_data"):
            for text, cut in self._displayed(content["data"], left_out):
                self._add_block(text, cut)

    def note(self, text: str) -> None:
        """Add a note in brackets on a line of its own; notes are never shortened."""
        self._tail_size += len(text) + 3
        self._add_block(f"[{text}]")

    def text(self) -> str:
        """The whole output, with a note where text was left out."""
        head, tail = "".join(self._head), "".join(self._tail)
        if self._left_out:
            head += f"\n[... {self._left_out:,} characters left out ...]\n"
        text = _without_written_over(_ANSI.sub("", head + tail))
        if not text.strip():
            return "[No output: print something, or end the cell with an expression.]"
        return text.lstrip("\r").rstrip("\r\n")

    # A cut is (position, number of missing characters), as reported by the kernel.

    def _add_block(self, text: str, cut: tuple[int, int] | None = None) -> None:
        """Add text on lines of its own."""
        if not self._at_line_start:
            self._add("\n")
        self._add_cut(text if text.endswith("\n") else text + "\n", cut)

    def _add_cut(self, text: str, cut: tuple[int, int] | None) -> None:
        if cut is None:
            self._add(text)
            return
        where, missing = cut
        self._add(text[:where])
        self._leave_out(missing)
        self._add(text[where:])

    def _leave_out(self, count: int) -> None:
        """Count missing characters; the text kept after them belongs to the end."""
        self._left_out += count + self._tail_length
        self._tail.clear()
        self._tail_length = 0
        self._room = 0

    def _add(self, text: str) -> None:
        if not text:
            return
        self._at_line_start = text.endswith("\n")
        if self._room:
            self._head.append(text[: self._room])
            text, self._room = text[self._room :], max(0, self._room - len(text))
        if not text:
            return
        self._tail.append(text)
        self._tail_length += len(text)
        while self._tail_length > self._tail_size:
            surplus = self._tail_length - self._tail_size
            first = self._tail.popleft()
            if len(first) > surplus:
                self._tail.appendleft(first[surplus:])
            dropped = min(surplus, len(first))
            self._tail_length -= dropped
            self._left_out += dropped

    def _displayed(
        self, data: Mapping[str, Any], left_out: Mapping[str, tuple[int, int]]
    ) -> Iterator[tuple[str, tuple[int, int] | None]]:
        """The texts that represent a displayed object."""
        shown = "text/plain"
        if _OBJECT_OF_DISPLAY.match(data.get(shown, "")):
            shown = next((kind for kind in _TYPES_OF_TEXT if kind in data), shown)
            if any(map(_is_file, data)):
                shown = ""
        if shown in data:
            yield data[shown], left_out.get(shown)
        for kind, value in data.items():
            if _is_file(kind):
                if kind in left_out:
                    yield f"[{kind}, too large to be passed on]", None
                else:
                    yield self._files.save(kind, value), None


def _without_written_over(text: str) -> str:
    """Text without the parts that are overwritten after a carriage return, as in progress bars.

    The text before and after may belong to the same line, so the carriage returns that affect it
    are kept.
    """
    if "\r" not in text:
        return text
    lines = text.split("\n")
    kept = [line.rstrip("\r") for line in lines]
    begin = "\r" if "\r" in kept[0] else ""
    end = "\r" if lines[-1].endswith("\r") else ""
    return begin + "\n".join(line.rpartition("\r")[2] for line in kept) + end


def _is_file(kind: str) -> bool:
    return not kind.startswith("text/") and kind != "application/json"


def _error_text(content: Mapping[str, Any]) -> tuple[str, tuple[int, int] | None]:
    """A traceback with the middle of many frames left out."""
    left_out: Mapping[str, tuple[int, int]] = content.get("left_out", {})
    frames = [str(frame) for frame in content.get("traceback", ())]
    if not frames:
        return f"{content.get('ename')}: {content.get('evalue')}", left_out.get("evalue")
    surplus = len(frames) - _MOST_FRAMES
    if surplus > 0:
        half = _MOST_FRAMES // 2
        frames = [*frames[:half], f"[... {surplus} frames left out ...]", *frames[-half:]]
    return "\n".join(frames), left_out.get("traceback")


class ImageFolder:
    """Saves images under unused names.

    Args:
        shown_as: The path of the folder in the kernel.
    """

    def __init__(self, folder: Path, shown_as: str) -> None:
        self._folder = folder
        self._shown_as = shown_as
        self._count = 0

    def save(self, kind: str, data: str) -> str:
        """Save an image, and return a line that names it."""
        content = data.encode() if kind == "image/svg+xml" else b64decode(data)
        about = f"{kind}, {len(content):,} bytes"
        ending = _ENDINGS.get(kind) or re.sub(r"\W.*", "", kind.partition("/")[2]) or "bin"
        while True:
            self._count += 1
            name = f"output-{self._count}.{ending}"
            try:
                # Always a new file: never write to a file or link that the code created.
                with open(self._folder / name, "xb") as file:
                    file.write(content)
            except FileExistsError:
                continue
            except OSError as error:
                return f"[{about}, not saved: {error.strerror}]"
            return f"[{about}, saved as {self._shown_as}/{name}]"
