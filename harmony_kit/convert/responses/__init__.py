"""OpenAI's Responses API to Harmony and back.

Requests in, responses and the events of streams out, and the other direction: all pure
functions over plain JSON data. Ids and times are arguments; the ids of items follow from that
of the response and their position.
"""

from ._folding import accumulate
from ._items import read_items
from ._request import ResponsesRequest, read_request
from ._response import read_response, stored_response, write_response
from ._stream import StreamEncoder
from ._writing import write_request

__all__ = [
    "ResponsesRequest",
    "StreamEncoder",
    "accumulate",
    "read_items",
    "read_request",
    "read_response",
    "stored_response",
    "write_request",
    "write_response",
]
