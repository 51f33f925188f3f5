"""Where links lead: relative addresses made absolute, and the domain that a mark shows."""

from __future__ import annotations

from typing import Final
from urllib.parse import urljoin, urlsplit

from ._marks import clean_line

_WEB: Final = ("http", "https")
_MAX_DOMAIN: Final = 100


def absolute_url(base: str, reference: str) -> str | None:
    """The address of a link.

    Args:
        base: The address of the page that holds it.
        reference: What stands in the link.

    Returns:
        The absolute URL, or `None` if the link leads to no page: it stays on the same one, or
        is of another kind, such as `mailto:`.
    """
    reference = clean_line(reference)
    if not reference or reference.startswith("#"):
        return None
    try:
        url = _joined(base, reference).replace(" ", "%20")
    except ValueError:
        return None
    scheme = url.partition(":")[0].lower()
    return url if scheme in (*_WEB, base.partition(":")[0].lower()) else None


def _joined(base: str, reference: str) -> str:
    scheme, _, rest = base.partition(":")
    if scheme.lower() in _WEB or urlsplit(reference).scheme:
        return urljoin(base, reference)
    # urljoin knows how addresses are put together for known schemes alone.
    return scheme + urljoin(f"http:{rest}", reference).removeprefix("http")


def domain_of(url: str) -> str:
    """The host and port in a URL, in a form that is safe in a mark; empty if there is none.

    Args:
        url: An absolute URL.
    """
    try:
        place = urlsplit(url).netloc
    except ValueError:
        return ""
    return clean_line(place.rpartition("@")[2], _MAX_DOMAIN).replace("†", "‡")
