"""A chat session: conversation, backend, tools, and answers."""

from __future__ import annotations

import signal
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any, Final

from ..engine._protocol import Backend
from ..errors import HarmonyError
from ..loop import RunOptions, TurnFinished, Usage, astream
from ..tools import Toolbox
from ..tools._declared import declared_tools
from ..tools._running import run_within
from ..wire._messages import Message
from ._backend_options import backend_of, sampling_of
from ._chat_interrupts import Interrupts, StoppedByUser
from ._chat_said import Said
from ._chat_screen import ChatScreen
from ._chat_transcript import Transcript, check_can_save, save_transcript
from ._tool_options import OpenedTools, opened_tools

_STOPPED: Final = "the user stopped the call before it had a result."
_FAILED: Final = "the call has no result because another error occurred."
_PENDING: Final = "the call had no result yet when the conversation was saved."
_NOT_HERE: Final = "this tool is not available."


class ChatSession:
    """A chat.

    Args:
        options: The command line.
        messages: The initial messages.
        interrupts: The handler of Ctrl-C.

    Attributes:
        is_terminal: Whether input and output are a terminal.
        screen: The display.
        transcript: The conversation.
        usage: The numbers of tokens used.
        failures: The number of failed inputs.
    """

    def __init__(
        self, options: Namespace, messages: Sequence[Message], interrupts: Interrupts
    ) -> None:
        self.is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        self.screen = ChatScreen(is_terminal=self.is_terminal, show_analysis=options.show_analysis)
        self.transcript = Transcript(messages)
        self.usage = Usage()
        self.failures = 0
        self._options = options
        self._interrupts = interrupts
        self._stack = AsyncExitStack()
        self._tools = OpenedTools(Toolbox())
        self._backend: Backend
        self._file = None if options.save is None else Path(options.save)

    @property
    def toolbox(self) -> Toolbox:
        """The tools."""
        return self._tools.toolbox

    # Start and end

    def open(self, browser_session: Any) -> None:
        """Open the tools, and load the backend.

        Raises:
            HarmonyError: A tool or the backend cannot be opened.
            StoppedByUser: Ctrl-C was pressed.
            KeyboardInterrupt: Ctrl-C was pressed twice.
        """
        try:
            self._interrupts.run(self._open())
        except (HarmonyError, OSError, StoppedByUser):
            raise
        except Exception as error:
            raise HarmonyError(f"{type(error).__name__}: {error}") from error
        browser = self._tools.browser
        self.screen.browser = browser
        if browser is not None and browser_session is not None:
            browser.restore(browser_session)
        self.transcript.messages = self.toolbox.declared_in(self.transcript.messages)
        self._greet()

    async def _open(self) -> None:
        self._tools = await self._stack.enter_async_context(opened_tools(self._options))
        if self._tools.python is not None:
            await self._tools.python.start()
        self._backend = await run_within(self._load_apart, None)
        self._stack.push_async_callback(self._backend.aclose)

    def _load_apart(self) -> Backend:
        """Load the backend in a thread that blocks Ctrl-C.

        The terminal also sends Ctrl-C to an engine's processes, which may exit on it. Processes
        started by this thread inherit the blocked signal.
        """
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        return backend_of(self._options)

    def close(self) -> None:
        """Close the tools and the backend."""
        try:
            self._interrupts.run(self._stack.aclose())
        except (StoppedByUser, KeyboardInterrupt):
            self.screen.note("left before everything was closed")
        except Exception as error:
            self.fail(error)

    def _greet(self) -> None:
        screen = self.screen
        isolation = None if self._tools.python is None else self._tools.python.isolation
        if isolation is not None and not isolation.network_blocked:
            screen.warn("python: the model's code can access the network")
        if isolation is not None and not isolation.files_read_only:
            screen.warn("python: the model's code can write to all files that you can write to")
        missing = sorted(declared_tools(self.transcript.messages) - set(self.toolbox.tools))
        if missing:
            screen.warn(f"unavailable tools of the conversation: {', '.join(missing)}")
        if self.is_terminal:
            asked = self.transcript.question_count()
            loaded = f", {asked} questions loaded" if asked else ""
            screen.note(f"{self._backend.name}{loaded}. /help lists commands, Ctrl-D leaves.")

    # Answers

    def answer(self) -> None:
        """Let the model answer the last question, and show the answer.

        Whatever happens, the conversation can continue afterwards, with all messages received.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed twice before everything had stopped.
        """
        said = Said()
        no_result = _FAILED
        try:
            self._interrupts.run(self._run(said), stopping=self._tell_that_it_stops)
            no_result = _NOT_HERE
        except StoppedByUser:
            no_result = _STOPPED
            self.screen.end()
            self.screen.note("stopped")
        except Exception as error:
            self.fail(error)
            self.screen.note("/retry asks again, /undo removes the question")
        finally:
            self.screen.end()
            self.transcript.add(said.messages(no_result))
            self.autosave()

    async def _run(self, said: Said) -> None:
        how = RunOptions(
            tools=self.toolbox,
            sampling=sampling_of(self._options),
            max_turns=self._options.max_turns,
            max_prompt_tokens=self._options.max_prompt_tokens,
        )
        asked = self.transcript.messages
        async with aclosing(astream(asked, self._backend, options=how)) as events:
            async for event in events:
                said.take(event)
                self.screen.show(event)
                if isinstance(event, TurnFinished):
                    self.usage += event.usage
                    self.autosave(said.messages(_PENDING))

    def _tell_that_it_stops(self) -> None:
        self.screen.end()
        self.screen.note("stopping; Ctrl-C again leaves immediately")

    def fail(self, error: Exception) -> None:
        """Show an error."""
        self.failures += 1
        self.screen.end()
        known = isinstance(error, HarmonyError | OSError) and str(error)
        self.screen.error(str(error) if known else f"{type(error).__name__}: {error}")

    # Files

    def save(self, file: str) -> None:
        """Save the conversation now and after each turn.

        Raises:
            HarmonyError: The file exists and was not saved by this chat.
            OSError: It cannot be written.
        """
        path = Path(file)
        if self._file is None or path.resolve() != self._file.resolve():
            check_can_save(path, self._options.load)
        self._save(path)
        self._file = path

    def autosave(self, unfinished: Sequence[Message] = ()) -> None:
        """Save the conversation if it has a file; an error is shown."""
        if self._file is not None:
            try:
                self._save(self._file, unfinished)
            except OSError as error:
                self.fail(error)

    def _save(self, path: Path, unfinished: Sequence[Message] = ()) -> None:
        browser = self._tools.browser
        session = None if browser is None else browser.to_dict()
        save_transcript(path, [*self.transcript.messages, *unfinished], session)
