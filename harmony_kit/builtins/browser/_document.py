"""Documents: texts with their address and type, before they become pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Document:
    """A loaded text, before it becomes a page.

    Attributes:
        url: The URL after redirects.
        text: The decoded text.
        media_type: The media type, such as `"text/html"`, in lower case and without parameters.
        title: The title, if the source knows it.
        truncated: Whether only a part was loaded.
    """

    url: str
    text: str = field(repr=False)
    media_type: str = "text/html"
    title: str = ""
    truncated: bool = False


@runtime_checkable
class PageSource(Protocol):
    """An object that loads documents, such as a `WebFetcher`."""

    async def fetch(self, url: str) -> Document | None:
        """Load a document.

        Args:
            url: The URL.

        Returns:
            The document, or `None` if the URL does not belong to this source.

        Raises:
            BrowserError: It cannot be loaded.
        """
        ...
