"""What all tests share: the oracle, and how hypothesis runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from harmony_kit.wire import _vocabulary as vocabulary

if TYPE_CHECKING:
    import openai_harmony

pytest.register_assert_rewrite("harmony_backends.testing")

for profile, count in (("ordinary", 30), ("thorough", 100)):
    settings.register_profile(
        profile,
        max_examples=count,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile("ordinary")


@pytest.fixture(scope="session")
def openai_harmony_encoding(
    tmp_path_factory: pytest.TempPathFactory,
) -> openai_harmony.HarmonyEncoding:
    """The reference implementation, over our vocabulary instead of a download.

    The environment variable is set before the package is even imported, and stays: the
    package looks for its vocabulary once in a process, when the first encoding is loaded.
    """
    folder = tmp_path_factory.mktemp("tiktoken_encodings")
    folder.joinpath("o200k_base.tiktoken").write_bytes(vocabulary.export_tiktoken())
    os.environ["TIKTOKEN_ENCODINGS_BASE"] = str(folder)
    oracle = pytest.importorskip("openai_harmony")
    return oracle.load_harmony_encoding("HarmonyGptOss")
