"""Anthropic's Messages API to and from Harmony: requests, responses, streams of events."""

from .arguments import INVALID_JSON, TRUNCATED_JSON
from .request import read_request
from .response import read_response, write_response
from .stream import StreamWriter, fold_stream
from .writing import write_request

__all__ = [
    "INVALID_JSON",
    "TRUNCATED_JSON",
    "StreamWriter",
    "fold_stream",
    "read_request",
    "read_response",
    "write_request",
    "write_response",
]
