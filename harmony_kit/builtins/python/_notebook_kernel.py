"""The kernel: ipykernel with short messages and without interactive input.

This script is run by path in the kernel's process, possibly by another interpreter than the one
that runs harmony-kit: it imports only ipykernel and the standard library.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import warnings
from typing import Any

LONGEST_TEXT = 1 << 18
"""The maximum characters of a text in one message."""
LARGEST_DATA = 1 << 25
"""The maximum characters of other data, such as an image in base64, in one message."""

SHOWN_TYPES = ("text/plain", "text/markdown", "text/latex", "text/html", "application/json")
FILE_TYPES = ("image/", "audio/", "video/", "application/pdf")


def shortened(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a message without the middle of long texts.

    Its `left_out` maps the key of each shortened text to the position of the cut and the number of
    characters removed.
    """
    result = dict(content)
    left_out: dict[str, tuple[int, int]] = {}

    def short(name: str, text: str) -> str:
        text = encodable(text)
        missing = len(text) - LONGEST_TEXT
        if missing <= 0:
            return text
        half = LONGEST_TEXT // 2
        left_out[name] = (half, missing)
        return text[:half] + text[-half:]

    for name in ("text", "evalue"):
        if isinstance(result.get(name), str):
            result[name] = short(name, result[name])
    if isinstance(result.get("traceback"), list):
        frames = [encodable(str(frame)) for frame in result["traceback"]]
        frames = [frame for frame in frames if not frame.startswith(f"File {__file__}:")]
        if sum(map(len, frames)) > LONGEST_TEXT:
            frames = [short("traceback", "\n".join(frames))]
        result["traceback"] = frames
    if isinstance(result.get("data"), dict):
        result["data"] = {
            kind: short(kind, value) if kind in SHOWN_TYPES and isinstance(value, str) else value
            for kind, value in result["data"].items()
            if kind in SHOWN_TYPES or kind.startswith(FILE_TYPES)
        }
        for kind, value in result["data"].items():
            if kind in SHOWN_TYPES and not isinstance(value, str):
                result["data"][kind] = short(kind, str(value))
            elif isinstance(value, str) and len(value) > LARGEST_DATA:
                result["data"][kind] = ""
                left_out[kind] = (0, len(value))
    if left_out:
        result["left_out"] = left_out
    return result


def encodable(text: str) -> str:
    """The text with lone surrogates escaped."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def make_kernel_class() -> type:
    """The kernel class; ipykernel is imported here."""
    from ipykernel.ipkernel import IPythonKernel

    base: Any = IPythonKernel  # its types differ from version to version

    class NotebookKernel(base):  # type: ignore[misc]
        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            send = self.session.send

            def send_shortened(
                stream: Any, msg_or_type: Any, content: Any = None, *rest: Any, **more: Any
            ) -> Any:
                if isinstance(msg_or_type, dict) and isinstance(msg_or_type.get("content"), dict):
                    shorter = shortened(msg_or_type["content"])
                    msg_or_type = {**msg_or_type, "content": shorter}
                elif isinstance(content, dict):
                    content = shortened(content)
                return send(stream, msg_or_type, content, *rest, **more)

            self.session.send = send_shortened
            keep_streams()
            # ipykernel makes programs use colors, which are useless to the model.
            for name in ("FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"):
                os.environ.pop(name, None)
            os.environ["TERM"] = "dumb"
            self.shell.ask_exit = lambda: print("exit() has no effect: the notebook continues.")

        def raw_input(self, prompt: str = "") -> str:  # noqa: ARG002
            raise EOFError(
                "input() is not available: the notebook is not interactive. Set the value in code."
            )

        def getpass(self, *arguments: Any, **more: Any) -> str:  # noqa: ARG002
            return self.raw_input()

        async def do_execute(self, *arguments: Any, **more: Any) -> Any:
            process = os.getpid()
            mend_streams()
            wake_on_signals()
            try:
                return await super().do_execute(*arguments, **more)
            finally:
                if os.getpid() != process:
                    # A fork that leaves its cell would continue as a second kernel.
                    flush_streams()
                    os._exit(0)

    return NotebookKernel


def flush_streams() -> None:
    """Publish everything printed so far."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


own_streams: dict[str, Any] = {}


def keep_streams() -> None:
    """Keep the output of both streams in order, and the streams open."""
    own_streams.update(stdout=sys.stdout, stderr=sys.stderr)
    last = [sys.stdout]
    for stream in own_streams.values():

        def write(text: str, stream: Any = stream, write: Any = stream.write) -> Any:
            if last[0] is not stream:
                last[0].flush()  # each stream publishes at its own time
                last[0] = stream
            return write(text)

        stream.write = write
        stream.close = lambda: None


def mend_streams() -> None:
    """Restore the streams if an earlier cell replaced or closed them."""
    for name, stream in own_streams.items():
        if getattr(sys, name) is None:
            setattr(sys, name, stream)


def wake_on_signals() -> None:
    """Let an interrupt wake the event loop while it waits for a cell's awaitable.

    ipykernel receives the signal, but only notes it in a loop that keeps sleeping.
    """
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        # The loop wakes on every signal once it handles one.
        loop.add_signal_handler(signal.SIGUSR2, lambda: None)


def main() -> None:
    """Run the kernel with the connection file from the command line."""
    del sys.path[0]  # the folder of this script
    import IPython
    from ipykernel.kernelapp import IPKernelApp
    from traitlets.config import Config

    # The warning for a cell that calls sys.exit().
    warnings.filterwarnings("ignore", message="To exit: use", category=UserWarning)
    config = Config()
    no_color = "nocolor" if IPython.version_info[0] >= 9 else "NoColor"
    config.InteractiveShell.colors = no_color
    config.HistoryManager.enabled = False
    config.IPKernelApp.log_level = "CRITICAL"
    IPKernelApp.launch_instance(config=config, kernel_class=make_kernel_class())


if __name__ == "__main__":
    main()
