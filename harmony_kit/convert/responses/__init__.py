"""OpenAI's Responses API: requests, responses and streams, in both directions.

The functions are those of `harmony_kit.convert.Api`, which documents their arguments.
"""

from ._folding import accumulate
from ._items import read_messages
from ._request import read_request
from ._response import read_response, stored_response, write_response
from ._stream import StreamEncoder
from ._writing import write_messages, write_request

__all__ = [
    "StreamEncoder",
    "accumulate",
    "read_messages",
    "read_request",
    "read_response",
    "stored_response",
    "write_messages",
    "write_request",
    "write_response",
]
