"""The five conversations of the article that the transcripts come from, with tools that really run.

What gpt-oss-120b said is as it was printed; the article ends where a tool would have had to
answer. Here one does, and what the model says after that is written for the test. The replay
backend refuses every prompt but the one that was recorded, or that follows from the right result.
"""

import json
import re
from datetime import date
from pathlib import Path

import pytest
from harmony_backends.function import FunctionBackend
from harmony_backends.recording import Exchange, read_recording
from harmony_backends.replay import ReplayBackend

import harmony_kit as hk

DATA = Path(__file__).parents[1] / "data"
CASES = {
    case["id"]: case for case in json.loads((DATA / "transcripts.json").read_text("utf-8"))["cases"]
}
DATE = "2025-08-06"


def final(text):
    return hk.encode_with_special(f"<|channel|>final<|message|>{text}<|return|>")


def test_a_riddle_that_is_cut_off():
    case = CASES["riddle-cut-at-128-tokens"]
    conversation = [
        hk.system(current_date=DATE),
        hk.developer(case["request"]["developer_instructions"]),
        hk.user(case["request"]["user"]),
    ]
    reply = hk.run(conversation, hk.load_backend("replay", recording="riddle"))
    assert (reply.outcome, reply.text) == ("length", None)
    assert reply.usage.completion_tokens == len(hk.encode_with_special(case["completion_text"]))


def test_an_answer_whose_special_tokens_are_lost():
    case = CASES["japanese-special-tokens-stripped"]
    result = hk.parse_text(case["completion_stripped_text"])
    said = [(message.channel, message.text) for message in result.messages]
    assert said == [(message["channel"], message["content"]) for message in case["expected"]]
    # It can be gone on with.
    conversation = [hk.user(case["request"]["user"]), *result.messages, hk.user("なぜ?")]
    reply = hk.run(conversation, FunctionBackend(lambda *_: final("好みです。")))
    assert reply.text == "好みです。"


def test_the_weather_is_looked_up_by_a_function():
    case = CASES["paris-function-call"]
    asked = []

    def get_current_weather(location: str) -> str:
        """Returns the current weather status at a given location as a string.

        Args:
            location: The location to get the weather for.
        """
        asked.append(location)
        return "Terrestrial."

    conversation = [
        hk.system(current_date=DATE, tools=[hk.BROWSER, hk.PYTHON]),
        hk.user(case["request"]["user"]),
    ]
    backend = hk.load_backend("replay", recording="paris-weather")
    reply = hk.run(conversation, backend, tools=[get_current_weather])
    assert asked == ["Paris"]
    assert reply.outcome == "final"
    assert reply.text == case["turns"][-1]["expected"][-1]["content"]


def test_the_day_of_the_week_is_computed_by_the_kernel():
    pytest.importorskip("ipykernel")
    case = CASES["builtin-python"]
    (recorded,) = read_recording("python-date")
    weekday = date(3050, 1, 1).weekday()
    assert case["answer"] == f"{weekday} (Tuesday)"
    with hk.builtins.PythonTool() as python:
        conversation = [
            hk.system(current_date=DATE, tools=[hk.BROWSER, python]),
            hk.user(case["request"]["user"]),
        ]
        call = hk.parse(recorded.completion).messages
        then = hk.render([*conversation, *call, hk.tool_result(call[-1], str(weekday))])
        answered = Exchange(tuple(then), tuple(final("火曜日です。")), "stop")
        reply = hk.run(conversation, ReplayBackend([recorded, answered]), tools=[python])
    assert reply.outcome == "final"
    assert [message.text for message in reply.messages] == [call[-1].text, "1", "火曜日です。"]


PAGES = {
    "spain.html": (
        "<title>スペインの気候</title><h1>スペインの気候</h1><p>国内の最高気温の記録は、2021年8月に"
        "アンダルシア州ラ・ランブラで観測された47.6度である。</p>"
    ),
    "france.html": (
        "<title>フランスの気候</title><h1>フランスの気候</h1><p>国内の最高気温の記録は、2019年6月に"
        "エロー県ヴェラルグで観測された46.0度である。</p>"
    ),
    "wine.html": "<title>スペインのワイン</title><p>リオハのワインは記録的な人気である。</p>",
}


def place_of(view, words):
    """Cursor and line where words stand in what the browser showed, as a model reads them."""
    cursor = re.match(r"\[(\d+)\]", view)[1]
    line = next(re.match(r"L(\d+):", line)[1] for line in view.splitlines() if words in line)
    return cursor, line


def test_records_are_searched_for_and_the_answer_cites_them(tmp_path):
    pytest.importorskip("lxml")
    from harmony_kit.builtins.browser import LocalSearch, resolve_citations

    for name, text in PAGES.items():
        (tmp_path / name).write_text(text, "utf-8")
    search = LocalSearch.from_folder(tmp_path, base_url="https://climate.example/")
    browser = hk.builtins.BrowserTool(search)
    (recorded,) = read_recording("browser-search")
    views = []

    def call(name, **arguments):
        text = json.dumps(arguments, ensure_ascii=False)
        return hk.encode_with_special(
            f"<|channel|>analysis to=browser.{name} code<|message|>{text}<|call|>"
        )

    def say(prompt, sampling):
        messages = hk.parse(prompt, role=None).messages
        views[:] = [message.text for message in messages if message.role == "tool"]
        if not views:
            assert tuple(prompt) == recorded.prompt
            return recorded.completion
        if len(views) in (1, 3):
            country = "スペイン" if len(views) == 1 else "フランス"
            link = re.search(rf"【(\d+)†{country}の気候", views[-1])[1]
            return call("open", id=int(link))
        if len(views) == 2:
            return call("search", query="最高気温 フランス 記録")
        (spain, spain_line), (france, france_line) = (
            place_of(views[1], "47.6"),
            place_of(views[3], "46.0"),
        )
        return final(
            f"スペインは47.6度【{spain}†L{spain_line}】、"
            f"フランスは46.0度【{france}†L{france_line}】です。"
        )

    conversation = [
        hk.system(current_date=DATE, tools=[browser, hk.PYTHON]),
        hk.user(CASES["builtin-browser"]["request"]["user"]),
    ]
    reply = hk.run(conversation, FunctionBackend(say), tools=[browser])
    assert reply.outcome == "final"
    assert len(views) == 4
    answer = resolve_citations(reply.text, browser)
    assert answer.text == "スペインは47.6度[1]、フランスは46.0度[2]です。"
    assert [citation.url for citation in answer.citations] == [
        "https://climate.example/spain.html",
        "https://climate.example/france.html",
    ]
    for citation, number in zip(answer.citations, ("47.6", "46.0"), strict=True):
        assert number in citation.quote
    assert not answer.unresolved
