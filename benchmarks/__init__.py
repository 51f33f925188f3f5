"""Our speed beside openai-harmony's: `python -m benchmarks`."""
