"""Headers of messages: written as tokens, and read from them."""
