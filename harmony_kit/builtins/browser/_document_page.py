"""Converting documents to pages by type."""

from __future__ import annotations

import json
import re
from typing import Final
from urllib.parse import unquote, urlsplit

from ._document import Document
from ._fetching import is_html
from ._html_page import HtmlText
from ._link_urls import absolute_url, domain_of
from ._marks import clean_line, clean_text, link_mark
from ._page import Link, Page

# [words](address), neither of which contains brackets.
_MARKDOWN_LINK: Final = re.compile(r"(?<!!)\[([^\[\]\n]{1,300})\]\(<?([^\s()<>]{1,2000})>?\)")
_MARKDOWN_TITLE: Final = re.compile(r"^#[ \t]+(\S[^\n]{0,300})", re.M)


def page_of_document(document: Document) -> Page:
    """The page of a document.

    Raises:
        ToolError: lxml is not installed, which HTML needs.
    """
    title = document.title
    links: tuple[Link, ...] = ()
    if is_html(document.media_type):
        html = HtmlText(document.text, document.url)
        title, text, links = title or html.title, html.text, html.links
    elif document.media_type in ("text/markdown", "text/x-markdown"):
        text, links = _markdown(document.text, document.url)
        heading = _MARKDOWN_TITLE.search(text)
        title = title or (heading[1] if heading else "")
    elif document.media_type == "application/json" or document.media_type.endswith("+json"):
        text = _plain(_indented(document.text))
    else:
        text = _plain(document.text)
    return _page(document, title, text, links)


def source_page(document: Document) -> Page:
    """A page with the source text of a document."""
    page = _page(document, document.title or "Source", _plain(document.text), ())
    return Page(f"view-source:{page.url}", page.title, page.text)


def _page(document: Document, title: str, text: str, links: tuple[Link, ...]) -> Page:
    address = clean_line(document.url)
    # The model was trained on pages that start with an empty line and their address.
    text = f"\nURL: {address}\n{text}"
    if document.truncated:
        text += "\n\n[The document is longer; only its start was loaded.]"
    return Page(document.url, title or _title_of_address(document.url), text, links)


def _title_of_address(url: str) -> str:
    parts = urlsplit(url)
    return unquote(parts.path.rstrip("/").rpartition("/")[2]) or parts.netloc or url


def _plain(text: str) -> str:
    lines = clean_text(text).expandtabs().split("\n")
    return "\n".join(map(str.rstrip, lines)).strip("\n")


def _indented(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _markdown(text: str, url: str) -> tuple[str, tuple[Link, ...]]:
    links: list[Link] = []
    ids: dict[str, int] = {}  # by address
    own_domain = domain_of(url)

    def mark(found: re.Match[str]) -> str:
        words = clean_line(found[1])
        address = absolute_url(url, found[2])
        if address is None or not words:
            return found[0]
        link_id = ids.setdefault(address, len(links))
        if link_id == len(links):
            links.append(Link(address, words))
        domain = domain_of(address)
        return link_mark(link_id, words, "" if domain == own_domain else domain)

    return _MARKDOWN_LINK.sub(mark, _plain(text)), tuple(links)
