"""The pages that were shown, by cursor."""

from __future__ import annotations

from typing import Any

from ...errors import ToolError
from ._errors import BrowserArgumentsError
from ._page import Page


class PageHistory:
    """A list of pages whose positions are the cursors. Every view gets a new cursor."""

    def __init__(self) -> None:
        self._pages: list[Page] = []

    def __len__(self) -> int:
        return len(self._pages)

    def push(self, page: Page) -> int:
        """Add a page, and return its cursor."""
        self._pages.append(page)
        return len(self._pages) - 1

    def get(self, cursor: int) -> Page | None:
        """The page of a cursor, or `None`."""
        return self._pages[cursor] if 0 <= cursor < len(self._pages) else None

    def page(self, cursor: int | None) -> Page:
        """The page of a cursor; the last page for `None`.

        Raises:
            BrowserArgumentsError: The page does not exist.
        """
        if not self._pages:
            raise BrowserArgumentsError("no page is open yet: search, or open a URL")
        page = self.get(len(self._pages) - 1 if cursor is None else cursor)
        if page is None:
            raise BrowserArgumentsError(
                f"there is no page with cursor {cursor}: cursors go from 0 to {len(self) - 1}"
            )
        return page

    def to_dict(self) -> dict[str, Any]:
        """The history as JSON data, in which each page appears once."""
        numbers: dict[int, int] = {}
        pages: list[dict[str, Any]] = []

        def number_of(page: Page) -> int:
            if id(page) not in numbers:
                origin = None if page.origin is None else number_of(page.origin)
                numbers[id(page)] = len(pages)
                pages.append(page.to_dict() | {"origin": origin})
            return numbers[id(page)]

        return {"cursors": [number_of(page) for page in self._pages], "pages": pages}

    def restore(self, data: Any) -> None:
        """Replace this history by a saved one.

        Raises:
            ToolError: The data is invalid.
        """
        pages: list[Page] = []
        try:
            for saved in data["pages"]:
                origin = saved["origin"]
                pages.append(Page.from_dict(saved, None if origin is None else pages[origin]))
            self._pages = [pages[number] for number in data["cursors"]]
        except (TypeError, KeyError, IndexError) as error:
            raise ToolError(f"not a saved history of pages: {error!r}") from error
