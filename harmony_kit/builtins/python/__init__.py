"""The built-in python tool: the code runs in a Jupyter kernel, in a process of its own."""

from ._isolation import Isolation
from ._tool import PythonTool

__all__ = ["Isolation", "PythonTool"]
