"""Write the recordings that ship with harmony_backends from transcripts of gpt-oss-120b.

    python scripts/make_recordings.py

The transcripts give the completions; the prompts are those that this package renders for
the requests they answered.
"""

import json
from pathlib import Path

from harmony_backends.recording import Exchange

import harmony_kit as hk

ROOT = Path(__file__).parents[1]
TRANSCRIPTS = ROOT / "tests" / "data" / "transcripts.json"
RECORDINGS = ROOT / "backends" / "harmony_backends" / "recordings"
DATE = "2025-08-06"
NAMES = {
    "paris-function-call": "paris-weather",
    "riddle-cut-at-128-tokens": "riddle",
    "builtin-python": "python-date",
    "builtin-browser": "browser-search",
}
BUILTIN = {"browser": hk.BROWSER, "python": hk.PYTHON}


def conversation_of(request: dict) -> list[hk.Message]:
    tools = [BUILTIN[name] for name in request.get("builtin_tools", ())]
    conversation = [hk.system(current_date=DATE, tools=tools)]
    instructions = request.get("developer_instructions")
    functions = [hk.Tool(**tool) for tool in request.get("tools", ())]
    if instructions or functions:
        conversation.append(hk.developer(instructions, tools=functions))
    return [*conversation, hk.user(request["user"])]


def exchanges_of(case: dict) -> list[Exchange]:
    conversation = conversation_of(case["request"])
    exchanges = []
    for turn in case.get("turns", [case]):
        if "tool_result" in turn:
            conversation.append(hk.tool_result(conversation[-1], turn["tool_result"]["content"]))
            continue
        prompt = hk.render(conversation)
        completion = hk.encode_with_special(turn["completion_text"])
        finish_reason = "stop" if turn["stop"] else "length"
        exchanges.append(Exchange(tuple(prompt), tuple(completion), finish_reason))
        conversation += hk.parse(completion).history()
    return exchanges


def main() -> None:
    for case in json.loads(TRANSCRIPTS.read_text(encoding="utf-8"))["cases"]:
        name = NAMES.get(case["id"])
        if name is None:
            continue
        lines = [exchange.to_json() + "\n" for exchange in exchanges_of(case)]
        (RECORDINGS / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        print(f"{name}: {len(lines)} completions")


if __name__ == "__main__":
    main()
