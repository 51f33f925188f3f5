"""What a source of pages gives: text with its address and type."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Document:
    """A text as it was loaded, before it is made a page.

    Attributes:
        url: The address, after redirects.
        text: The text, decoded.
        media_type: Such as `"text/html"`, in lower case, without parameters.
        title: The title, where the source knows it.
        truncated: Whether there is more that was not loaded.
    """

    url: str
    text: str = field(repr=False)
    media_type: str = "text/html"
    title: str = ""
    truncated: bool = False


@runtime_checkable
class PageSource(Protocol):
    """Whatever loads documents: the web, or a store of its own."""

    async def fetch(self, url: str) -> Document | None:
        """Load a document.

        Args:
            url: The address.

        Returns:
            The document, or `None` if the address is none of this source's.

        Raises:
            BrowserError: It cannot be loaded.
        """
        ...
