"""Messages to and from the shapes that other programs speak."""
