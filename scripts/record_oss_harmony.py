"""Record what oss-harmony 0.0.11 renders, for tests/wire/test_oss_harmony.py.

It has the import name of openai-harmony, and so needs an environment of its own:

    python -m venv oss && oss/bin/pip install oss-harmony==0.0.11
    oss/bin/python scripts/record_oss_harmony.py
"""

import itertools
import json
from importlib.metadata import version
from pathlib import Path

import openai_harmony

TARGET = Path(__file__).parents[1] / "tests" / "data" / "oss_harmony.json"

CHANNELS = [None, "analysis", "commentary", "final"]
RECIPIENTS = [None, "all", "assistant", "functions.get_weather", "python"]
CONTENT_TYPES = [None, "json", "code", "<|constrain|>json", "<|constrain|>"]
AUTHORS = [
    ("assistant", None),
    ("user", None),
    ("user", "bob"),
    ("tool", "functions.get_weather"),
]


def messages():
    for (role, name), channel, recipient, content_type in itertools.product(
        AUTHORS, CHANNELS, RECIPIENTS, CONTENT_TYPES
    ):
        yield {
            "role": role,
            "name": name,
            "content": "{}",
            "channel": channel,
            "recipient": recipient,
            "content_type": content_type,
        }


def main() -> None:
    encoding = openai_harmony.load_harmony_encoding("HarmonyGptOss")
    cases = [
        {
            "message": message,
            "tokens": encoding.render(openai_harmony.Message.from_dict(message)),
        }
        for message in messages()
    ]
    recording = {"oss-harmony": version("oss-harmony"), "cases": cases}
    text = json.dumps(recording, separators=(",", ":")).replace('{"message"', '\n{"message"')
    TARGET.write_text(text + "\n", encoding="utf-8")
    print(f"{TARGET.name}: {len(cases)} messages")


if __name__ == "__main__":
    main()
