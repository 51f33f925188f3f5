"""Bytes to tokens and back: what the fuzzer varies, and what the reader reads.

One byte is one of the pieces that make up Harmony, or the escape before a token id of three
bytes. The first byte decides how the tokens are cut into chunks.
"""

import json
from pathlib import Path

import harmony_kit as hk

CASES = Path(__file__).parent.parent / "tests" / "data" / "malformed"

PIECES = [
    [token]
    for name in ("start", "end", "message", "channel", "constrain", "return", "call")
    for token in hk.encode_with_special(f"<|{name}|>")
]
PIECES += [
    hk.encode_with_special(text)
    for text in (
        *("<|endoftext|>", "<|startoftext|>", "<|reserved_200013|>", "assistant", "user"),
        *("system", "developer", "tool", "analysis", "commentary", "final", " to=", "to="),
        *("functions.f", " to=functions.f", " to=python", "to=assistant", "json", " json"),
        *("code", " code", " ", "\n", "\t", "\u3000", "{", "}", '{"a":1}', "hello", " world"),
        *("é", "漢", "\U0001f600", "finalx", "comment", "assistantassistant", "??", ":", "."),
        *("<|start|>assistant", "<|channel|>final<|message|>", "<|channel|>analysis<|message|>"),
        *("<|end|><|start|>assistant", "<|start|>user<|message|>", "<|start|>functions.f"),
        "<|channel|>commentary to=functions.f <|constrain|>json<|message|>",
    )
]
# Halves of characters, and numbers that are no token ids.
PIECES += [[4103], [104], [9552], [132990], [-1], [201089], [-300000], [2**40]]
ESCAPE = 255
_BYTE = {tuple(piece): byte for byte, piece in enumerate(PIECES)}


def tokens_of(data):
    """The tokens that a fuzzer's bytes stand for."""
    tokens = []
    data = iter(data)
    for byte in data:
        if byte != ESCAPE:
            tokens += PIECES[byte % len(PIECES)]
        else:
            tokens.append(int.from_bytes(bytes([next(data, 0), next(data, 0), next(data, 0)])))
    return tokens


def bytes_of(tokens):
    """Bytes that stand for tokens."""
    data = bytearray()
    for token in tokens:
        byte = _BYTE.get((token,))
        data += bytes([byte]) if byte is not None else bytes([ESCAPE, *token.to_bytes(3)])
    return bytes(data)


def seeds():
    """The collected cases as a fuzzer's inputs."""
    for file in sorted(CASES.glob("*.json")):
        for case in json.loads(file.read_text("utf-8"))["cases"]:
            given = case["input"]
            tokens = given.get("token_ids") or hk.encode_with_special(given["text"])
            yield bytes([0]) + bytes_of(tokens)
            yield bytes([1]) + bytes_of(tokens)
