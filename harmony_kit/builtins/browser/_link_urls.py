"""Link targets: resolving relative URLs, and the domain that a link mark shows."""

from __future__ import annotations

from typing import Final
from urllib.parse import urljoin, urlsplit

from ._marks import clean_line

_WEB: Final = ("http", "https")
_MAX_DOMAIN: Final = 100


def absolute_url(base: str, reference: str) -> str | None:
    """The absolute URL of a link; `None` if it stays on the page or is `mailto:` or the like."""
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
    # urljoin only resolves URLs of known schemes.
    return scheme + urljoin(f"http:{rest}", reference).removeprefix("http")


def domain_of(url: str) -> str:
    """The host and port of a URL, safe to include in a mark; empty if there is none."""
    try:
        place = urlsplit(url).netloc
    except ValueError:
        return ""
    return clean_line(place.rpartition("@")[2], _MAX_DOMAIN).replace("†", "‡")
