"""Input made to hurt: ten times as much of it should take ten times as long."""

from rich.table import Table

import harmony_kit as hk
from harmony_kit.wire._vocabulary import CHANNEL, END, MESSAGE, START

from .measure import median_time

HEADER = [CHANNEL, 17196]


def read(tokens):
    return lambda: hk.parse(tokens)


def read_arguments(text):
    message = hk.Message("assistant", text, channel="commentary", recipient="functions.f")
    return lambda: hk.tool_calls([message], ["f"])


def cases():
    """Name, and what is done with a size: a function to time."""
    word = hk.encode(" word")
    problem = hk.encode_with_special("<|constrain|>a")
    yield "200,000 header tokens without <|message|>", 200_000, lambda n: read(HEADER + word * n)
    yield "100,000 times <|start|><|end|>", 100_000, lambda n: read([START, END] * n)
    yield (
        "1,000,000 problems within a content",
        1_000_000,
        lambda n: read([*HEADER, MESSAGE, *problem * n]),
    )
    yield "1,000,000 ids that are none", 1_000_000, lambda n: read([*HEADER, MESSAGE, *[-1] * n])
    yield (
        "1 MB of arguments, 10,000 levels deep",
        1_000_000,
        lambda n: read_arguments('{"a":' * (n // 100) + "1" * (n - n // 20)),
    )
    yield "1 MB of { as arguments", 1_000_000, lambda n: read_arguments("{" * n)
    yield (
        "1 MB of arguments with faults",
        1_000_000,
        lambda n: read_arguments("{" + "'a': True, " * (n // 11) + "}"),
    )


def table():
    """The times of all cases."""
    rows = Table("", "a tenth, ms", "all, ms", "ratio", box=None)
    for name, size, prepare in cases():
        tenth, whole = (median_time(prepare(count), 3) for count in (size // 10, size))
        rows.add_row(name, f"{tenth * 1e3:.2f}", f"{whole * 1e3:.2f}", f"{whole / tenth:.1f}")
    return rows
