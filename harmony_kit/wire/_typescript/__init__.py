"""The TypeScript-like text that tells the model of a tool's parameters."""
