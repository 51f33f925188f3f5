"""What must hold for any tokens: laws 2, 3 and 4."""

import harmony_kit as hk


def check(tokens, size, role):
    """Read tokens whole, in chunks and strictly; raise if a law is broken.

    Args:
        tokens: Any integers.
        size: How many of them make a chunk; 1 feeds integers, not lists.
        role: `"assistant"` or `None`.
    """
    whole = hk.parse(tokens, role=role)
    check_partition(whole, len(tokens))
    check_chunks(tokens, size, role, whole)
    check_strict(tokens, size, role, whole)


def check_strict(tokens, size, role, whole):
    """Law 4: strict reading gives the same, or raises the first problem of lenient reading."""
    first = whole.problems[0] if whole.problems else None
    expected = None if first is None else (first.code, first.span.start)
    try:
        strict = hk.parse(tokens, role=role, strict=True)
        raised = None
    except hk.ParseError as error:
        raised = (error.code, error.position)
    assert raised == expected, "strict reading raises another problem than the first"
    if raised is None:
        assert strict == whole, "strict and lenient reading differ"
    parser = hk.Parser(role=role, strict=True)
    try:
        for start in range(0, len(tokens), size):
            parser.feed(tokens[start : start + size])
        parser.close()
        raised = None
    except hk.ParseError as error:
        raised = (error.code, error.position)
    assert raised == expected, "a strict stream raises another problem than the first"


def check_partition(result, length):
    """Law 2: messages and the problems outside of them share out the input."""
    spans = [parsed.span for parsed in result.parsed]
    stretches = [(span.start, span.end) for span in spans]
    stretches += [found.span for found in result.problems if found.outside]
    end = 0
    for start, after in sorted(stretches):
        assert start == end, f"token {end} is lost, or read twice"
        end = after
    assert end == length, f"token {end} is lost"
    for span in spans:
        assert span.start <= span.content_start <= span.content_end <= span.end


def check_chunks(tokens, size, role, whole):
    """Law 3: chunks give the same, and their deltas join to the contents."""
    parser = hk.Parser(role=role)
    events = []
    if size == 1:
        for token in tokens:
            events += parser.feed(token)
    else:
        for start in range(0, len(tokens), size):
            events += parser.feed(tokens[start : start + size])
    events += parser.close()
    assert parser.result() == whole, "chunks give another result"
    contents = {}
    found = []
    for event in events:
        if isinstance(event, hk.wire.MessageStarted):
            contents[event.message_index] = ""
        elif isinstance(event, hk.ContentDelta):
            contents[event.message_index] += event.text
        elif isinstance(event, hk.wire.ProblemFound):
            found.append(event.problem)
        else:
            assert contents[event.message_index] == event.message.content
    assert list(contents) == list(range(whole.turn_length)), "a message gave no events"
    assert sorted(found) == sorted(whole.problems), "the problems of the events are others"
