"""The TypeScript-like text that describes the parameters of a tool to the model."""
