"""Reading and writing the headers of messages."""
