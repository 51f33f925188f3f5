"""OpenAI's Responses API to Harmony and back.

Requests in, responses and the events of streams out, and the other direction: all pure
functions over plain JSON data. Ids and times are arguments; the ids of items follow from that
of the response and their position.
"""

from .folding import fold_stream
from .items import read_items
from .request import ResponsesRequest, read_request
from .response import read_response, stored_response, write_response
from .stream import StreamWriter
from .writing import write_request

__all__ = [
    "ResponsesRequest",
    "StreamWriter",
    "fold_stream",
    "read_items",
    "read_request",
    "read_response",
    "stored_response",
    "write_request",
    "write_response",
]
