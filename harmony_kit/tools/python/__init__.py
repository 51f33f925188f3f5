"""The built-in python tool: the code runs in a Jupyter kernel, in a process of its own."""

from .isolation import Isolation
from .tool import PythonTool

__all__ = ["Isolation", "PythonTool"]
