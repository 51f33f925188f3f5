"""Engines for harmony-kit, one module each, loaded by name with `harmony_kit.load_backend`."""
