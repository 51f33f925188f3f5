"""The built-in python tool, which runs code in a Jupyter kernel in its own process."""

from ._isolation import Isolation
from ._tool import PythonTool

__all__ = ["Isolation", "PythonTool"]
