"""Stores of responses."""

import threading

import pytest

import harmony_kit as hk
from harmony_kit.convert._store import MemoryStore, SQLiteStore, StoredItem, StoredResponse
from harmony_kit.errors import HarmonyError

CALL = hk.call_message("functions.f", '{"a": "漢"}')
RESPONSE = StoredResponse(
    messages=(
        hk.user("Hi <|end|>"),
        hk.developer("Be brief."),
        hk.assistant("Hm.", channel="analysis"),
        CALL,
    ),
    calls={"call_0": "functions.g", "call_1": "functions.f"},
    items={
        "rs_1": StoredItem(hk.assistant("Hm.", channel="analysis")),
        "fc_1": StoredItem(CALL, "call_1", "functions.f"),
    },
    reasonings={"call_1": "Hm."},
)
OTHER = StoredResponse((hk.user("Bye"),), items={"msg_2": StoredItem(hk.assistant("Bye"))})


@pytest.fixture(params=["memory", "sqlite", "sqlite in memory"])
def store(request, tmp_path):
    if request.param == "memory":
        yield MemoryStore()
        return
    path = tmp_path / "responses.db" if request.param == "sqlite" else ":memory:"
    with SQLiteStore(path) as found:
        yield found


def test_what_was_put_comes_back(store):
    store.put("resp_1", RESPONSE)
    store.put("resp_2", OTHER)
    assert store.get("resp_1") == RESPONSE
    assert store.get("resp_2") == OTHER
    assert store.item("fc_1") == StoredItem(CALL, "call_1", "functions.f")
    assert store.item("msg_2").message == hk.assistant("Bye")
    assert store.reasoning("call_1") == "Hm."


def test_what_is_not_there_is_none(store):
    store.put("resp_1", RESPONSE)
    assert store.get("resp_2") is None
    assert store.item("resp_1") is None
    assert store.reasoning("call_0") is None


def test_a_response_with_the_same_id_is_replaced(store):
    store.put("resp_1", RESPONSE)
    store.put("resp_1", OTHER)
    assert store.get("resp_1") == OTHER
    assert store.item("fc_1") is None
    assert store.reasoning("call_1") is None
    assert store.item("msg_2") is not None


def test_threads_may_share_a_store(store):
    errors = []

    def work(number):
        try:
            for index in range(20):
                key = f"{number}_{index}"
                item = {f"msg_{key}": StoredItem(hk.assistant(key))}
                store.put(f"resp_{key}", StoredResponse((hk.user(key),), items=item))
                assert store.get(f"resp_{key}").messages == (hk.user(key),)
                assert store.item(f"msg_{key}").message == hk.assistant(key)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.get("resp_3_19").messages == (hk.user("3_19"),)


def test_a_file_outlives_its_store(tmp_path):
    path = tmp_path / "responses.db"
    with SQLiteStore(path) as store:
        store.put("resp_1", RESPONSE)
    with SQLiteStore(str(path)) as store:
        assert store.get("resp_1") == RESPONSE
        assert store.reasoning("call_1") == "Hm."


def test_a_closed_store_says_so(tmp_path):
    store = SQLiteStore(tmp_path / "responses.db")
    store.close()
    store.close()
    for use in (
        lambda: store.get("x"),
        lambda: store.item("x"),
        lambda: store.reasoning("x"),
        lambda: store.put("x", OTHER),
    ):
        with pytest.raises(HarmonyError, match="the store is closed"):
            use()


def test_a_put_that_fails_leaves_what_was_there(tmp_path):
    with SQLiteStore(tmp_path / "responses.db") as store:
        store.put("resp_1", RESPONSE)
        with pytest.raises(Exception, match=r"bind|type"):
            store.put("resp_1", StoredResponse((), reasonings={"call_1": object()}))
        assert store.get("resp_1") == RESPONSE
