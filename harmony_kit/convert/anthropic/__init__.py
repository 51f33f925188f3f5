"""Anthropic's Messages API to and from Harmony: requests, responses, streams of events."""

from ._arguments import INVALID_JSON, TRUNCATED_JSON
from ._request import read_request
from ._response import read_response, write_response
from ._stream import StreamEncoder, accumulate
from ._writing import write_request

__all__ = [
    "INVALID_JSON",
    "TRUNCATED_JSON",
    "StreamEncoder",
    "accumulate",
    "read_request",
    "read_response",
    "write_request",
    "write_response",
]
