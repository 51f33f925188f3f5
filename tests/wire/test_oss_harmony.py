"""`header_order="channel-first"` against messages that oss-harmony 0.0.11 rendered.

It has the import name of openai-harmony, so that both cannot be loaded together:
`scripts/record_oss_harmony.py` wrote down what it says.
"""

import json
from pathlib import Path

import pytest

import harmony_kit as hk

CASES = json.loads((Path(__file__).parents[1] / "data" / "oss_harmony.json").read_text("utf-8"))[
    "cases"
]


def test_there_are_cases():
    assert len(CASES) == 400


# It writes every content type with <|constrain|>; we do where the message says so.
CONSTRAINED = {"json": "<|constrain|>json", "code": "<|constrain|>code"}


def render(data, header_order):
    content_type = CONSTRAINED.get(data["content_type"], data["content_type"])
    message = hk.convert.message_from_dict(data | {"content_type": content_type})
    return hk.wire.render_message(message, header_order=header_order)


@pytest.mark.parametrize("channel", [None, "commentary"])
def test_law_1_parity_of_channel_first(channel):
    for case in CASES:
        if case["message"]["channel"] == channel:
            assert render(case["message"], "channel-first") == case["tokens"]


@pytest.mark.parametrize("channel", ["analysis", "final"])
def test_other_channels_are_recipient_first_there(channel):
    """The model itself writes `<|channel|>analysis to=browser.search`; so do we when asked."""
    for case in CASES:
        if case["message"]["channel"] == channel:
            assert render(case["message"], "recipient-first") == case["tokens"]
