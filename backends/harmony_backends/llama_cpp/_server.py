"""llama.cpp's server in a process of its own, which lives as long as the object that started it."""

from __future__ import annotations

import json
import logging
import secrets
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final

import httpx

from harmony_kit.errors import BackendError

_PROGRAM: Final = Path(__file__).with_name("llama_cpp_process.py")
_LOG: Final = logging.getLogger(__name__)
_KEPT_LINES: Final = 20
_SECONDS_TO_STOP: Final = 10.0
_SECONDS_TO_ANSWER: Final = 60.0


class LlamaCppServer:
    """A server on loopback that only who started it can use: a random key keeps others out.

    In a process of its own it can neither write to this one's standard output nor end this
    one when it fails. The process ends with the object, with the program, and
    when the program is killed. What it logs goes to this module's logger, at level DEBUG.

    Args:
        options: llama.cpp's options; see `llama_cpp_process.set_options`.

    Attributes:
        url: Its address.
        key: What requests need as a bearer token.

    Raises:
        BackendError: xllamacpp is not installed, or the server does not start.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        if find_spec("xllamacpp") is None:
            raise BackendError(
                "backend 'llama_cpp' needs the package 'xllamacpp': "
                "pip install 'harmony-kit[llama_cpp]'"
            )
        self.key = secrets.token_urlsafe()
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # An interrupt from the keyboard is for the program, which then stops the server.
            start_new_session=True,
        )
        self._log: deque[str] = deque(maxlen=_KEPT_LINES)
        assert self._process.stderr is not None
        self._reader = threading.Thread(
            target=_read_log,
            args=(self._process.stderr, self._log),
            name="harmony-kit llama.cpp log",
            daemon=True,
        )
        self._reader.start()
        self._finalizer = weakref.finalize(self, _stop, self._process)
        try:
            self.url = self._start({**options, "api_keys": [self.key]})
        except BaseException:
            self.stop()
            raise

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    @property
    def log(self) -> list[str]:
        """The last lines that it logged."""
        return list(self._log)

    def ends_within(self, seconds: float) -> bool:
        """Wait for the end of the process.

        Args:
            seconds: How long.

        Returns:
            Whether it has ended.
        """
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return not self.is_running

    @property
    def process_id(self) -> int:
        """The process's number in the operating system."""
        return self._process.pid

    def ask(self, path: str) -> Any:
        """What the server says of itself.

        Args:
            path: Such as `/props`.

        Returns:
            Its answer: JSON data, or text.

        Raises:
            BackendError: It does not answer.
        """
        headers = {"Authorization": f"Bearer {self.key}"}
        try:
            response = httpx.get(
                self.url + path,
                headers=headers,
                timeout=_SECONDS_TO_ANSWER,
                trust_env=False,  # no proxy leads to this machine
            )
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise BackendError(f"llama.cpp's server does not answer: {error}") from error
        is_json = response.headers.get("content-type", "").startswith("application/json")
        return response.json() if is_json else response.text

    def stop(self) -> None:
        """End the process. May be called more than once."""
        self._finalizer()
        self._reader.join()

    def _start(self, options: Mapping[str, Any]) -> str:
        """Hand over the options and wait for the answer, which comes when the model is loaded."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with suppress(BrokenPipeError):  # it has ended; its log says why
            stdin.write(json.dumps(options).encode() + b"\n")
            stdin.flush()
        answer = json.loads(stdout.readline() or "{}")
        if "address" in answer:
            return str(answer["address"])
        self._process.wait()
        self._reader.join()
        if answer.get("kind") == "option":
            raise BackendError(answer["error"])
        reason = answer.get("error", f"it ended with code {self._process.returncode}")
        raise BackendError("\n".join([f"llama.cpp does not start: {reason}", *self._log]))


def _read_log(stream: IO[bytes], kept: deque[str]) -> None:
    with stream:
        for line in stream:
            text = line.decode("utf-8", "replace").rstrip()
            kept.append(text)
            _LOG.debug("%s", text)


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.close()  # for which it waits
    try:
        process.wait(_SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
