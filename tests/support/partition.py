"""Law 2: messages and problems share out the input."""


def spans_of(result):
    return [parsed.span for parsed in result.parsed]


def check_partition(result, length):
    """Messages and the problems outside of them share out the input."""
    stretches = [(span.start, span.end) for span in spans_of(result)]
    stretches += [found.span for found in result.problems if found.outside]
    end = 0
    for start, after in sorted(stretches):
        assert start == end
        end = after
    assert end == length
    for span in spans_of(result):
        assert span.start <= span.content_start <= span.content_end <= span.end
    for found in result.problems:
        assert 0 <= found.span.start <= found.span.end <= length


def codes(result):
    return [found.code for found in result.problems]
