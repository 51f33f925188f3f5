"""Fuzzing the reader: `python -m fuzz`, coverage-guided by atheris."""
