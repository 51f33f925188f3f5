"""llama.cpp's server in a process of its own."""

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

_PROGRAM: Final = Path(__file__).with_name("_process.py")
_LOG: Final = logging.getLogger(__name__)
_KEPT_LINES: Final = 20
_SECONDS_TO_STOP: Final = 10.0
_SECONDS_TO_ANSWER: Final = 60.0


class LlamaCppServer:
    """A server on loopback, with a random key that keeps other users out.

    In its own process, llama.cpp can neither write to this program's standard output nor end this
    program when it crashes. The process ends with this object, with the program, and also when the
    program is killed. Its log goes to this module's logger, at level DEBUG.

    Args:
        options: llama.cpp's options; see `_process.set_options`.

    Attributes:
        url: The server's address.
        key: The bearer token of requests.

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
            # Keep keyboard interrupts from the server; the program stops it.
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
        """Whether the process is running."""
        return self._process.poll() is None

    @property
    def log(self) -> list[str]:
        """The last lines of its log."""
        return list(self._log)

    def ends_within(self, seconds: float) -> bool:
        """Wait for the process to end, and return whether it has."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return not self.is_running

    @property
    def process_id(self) -> int:
        """The process id."""
        return self._process.pid

    def ask(self, path: str) -> Any:
        """Get a path such as `/metrics` from the server, as JSON data or text.

        Raises:
            BackendError: The server does not answer.
        """
        headers = {"Authorization": f"Bearer {self.key}"}
        try:
            response = httpx.get(
                self.url + path,
                headers=headers,
                timeout=_SECONDS_TO_ANSWER,
                trust_env=False,  # no proxy for loopback
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
        """Send the options, and wait for the address, which comes once the model is loaded."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with suppress(BrokenPipeError):  # it has ended; the reason is in its log
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
        process.stdin.close()  # the signal to end
    try:
        process.wait(_SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
