"""Backends for harmony-kit, loaded by name with `harmony_kit.load_backend`."""
