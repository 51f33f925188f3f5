"""OpenAI's Chat Completions API to Harmony and back.

    request = read_request(body)                       # a HarmonyRequest
    prompt = request.prompt()                          # token ids for any engine
    result = parse(completion_tokens)
    response = write_response(result, id=..., created=..., model=..., request=request)

`StreamEncoder` makes chunks of a parser's events, and `accumulate` a response of chunks. The
other way, `write_request` makes a request of messages, and `read_response` messages of a
response. All of it works on plain JSON data, and knows no clock: ids and times are arguments.
"""

from ._request import read_messages, read_request
from ._response import read_response, write_response
from ._reverse import write_messages, write_request
from ._stream import StreamEncoder, accumulate

__all__ = [
    "StreamEncoder",
    "accumulate",
    "read_messages",
    "read_request",
    "read_response",
    "write_messages",
    "write_request",
    "write_response",
]
