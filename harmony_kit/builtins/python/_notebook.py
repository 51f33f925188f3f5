"""The notebook: cells, and the kernels that run them sequentially. All calls block."""

from __future__ import annotations

import shutil

from ...errors import ToolError
from ._isolation import Isolation
from ._kernel import Cancellation, Ending, Kernel, KernelSettings
from ._output import CellOutput, ImageFolder


class Notebook:
    """Runs cells, starting a kernel if none is running.

    Args:
        timeout: The time after which a cell is interrupted, in seconds.
        output_limit: The maximum output of a cell, in characters.
    """

    def __init__(self, settings: KernelSettings, timeout: float, output_limit: int) -> None:
        self.settings = settings
        self._timeout = timeout
        self._output_limit = output_limit
        self._kernel: Kernel | None = None
        self._isolation: Isolation | None = None
        self._images: ImageFolder | None = None
        self._started = 0
        self._is_abandoned = False

    @property
    def isolation(self) -> Isolation | None:
        """The isolation of the current or last kernel."""
        return self._isolation

    def start(self, cancellation: Cancellation) -> None:
        """Start a kernel if none is running.

        Raises:
            ToolError: It cannot be started, or packages are missing.
        """
        self._running_kernel(cancellation)

    def execute(self, code: str, cancellation: Cancellation) -> str:
        """The output of a cell, with notes about how it ended.

        Raises:
            ToolError: The kernel cannot be started, or packages are missing.
        """
        if cancellation.is_set:
            return "[The cell was cancelled before it was run.]"
        fault = _fault(code)
        if fault is not None:
            return f"[The cell was not run: {fault}.]"
        loss = self._bury()
        kernel = self._running_kernel(cancellation)
        output = CellOutput(self._output_limit, self._image_folder(kernel))
        if loss is not None:
            output.note(loss)
        ending = kernel.execute(code, output, self._timeout, cancellation)
        if ending is not Ending.DONE:
            output.note(self._explanation(ending, kernel, cancellation))
        if ending in (Ending.DIED, Ending.KILLED):
            self.end_kernel()
        return output.text()

    def end_kernel(self) -> None:
        """Stop the kernel with all its processes."""
        kernel, self._kernel = self._kernel, None
        if kernel is not None:
            kernel.close()
            shutil.rmtree(kernel.runtime, ignore_errors=True)

    def abandon(self) -> None:
        """Kill the kernel and remove the temporary files for good; callable from any thread."""
        self._is_abandoned = True
        kernel = self._kernel
        if kernel is not None:
            kernel.kill()
        shutil.rmtree(self.settings.base, ignore_errors=True)

    def _running_kernel(self, cancellation: Cancellation) -> Kernel:
        if self._is_abandoned:
            raise ToolError("the python tool is closed")
        if self._kernel is None:
            self._started += 1
            runtime = self.settings.base / f"kernel-{self._started}"
            try:
                self._kernel = Kernel(self.settings, runtime, cancellation)
            except BaseException:
                shutil.rmtree(runtime, ignore_errors=True)
                raise
            self._isolation = self._kernel.isolation
        return self._kernel

    def _bury(self) -> str | None:
        """Clean up a kernel that died between two cells, and return a note about it."""
        if self._kernel is None or not self._kernel.has_ended:
            return None
        death = self._kernel.death
        self.end_kernel()
        return (
            f"The kernel ended after the last cell ({death}). This cell runs in a new one, "
            "without the earlier variables."
        )

    def _image_folder(self, kernel: Kernel) -> ImageFolder:
        if self._images is None:
            self._images = ImageFolder(self.settings.folder, kernel.shown_folder)
        return self._images

    def _explanation(self, ending: Ending, kernel: Kernel, cancellation: Cancellation) -> str:
        lost = (
            "All variables are lost, and the next cell gets a new kernel. "
            f"The files in {kernel.shown_folder} are still there."
        )
        if ending is Ending.DIED:
            return f"The kernel died while it ran the cell ({kernel.death}). {lost}"
        why = (
            "The cell was cancelled"
            if cancellation.is_set
            else f"The cell timed out after {self._timeout:.1f} seconds"
        )
        if ending is Ending.INTERRUPTED:
            return f"{why} and was interrupted. The variables are kept."
        return f"{why}. It did not stop when it was interrupted: the kernel was killed. {lost}"


def _fault(code: str) -> str | None:
    """Why code cannot be sent to a kernel; `None` if it can."""
    try:
        code.encode()
    except UnicodeEncodeError as error:
        return f"character {error.start + 1} of the code is half of a surrogate pair"
    return None
