"""A table of all benchmarks: `python -m benchmarks`.

Both sides run in the same process, round by round in alternation; the figures are medians.
The exit code is 1 if a bar is missed.
"""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

import harmony_kit as hk
from harmony_kit.wire._header.writing import header_tokens, piece_tokens
from harmony_kit.wire._vocabulary import export_tiktoken

from . import conversion, grammar, hostile, loop


def reference_vocabulary():
    """A folder in which openai-harmony finds its vocabulary without a download."""
    folder = tempfile.TemporaryDirectory(prefix="harmony-kit-benchmarks-")
    Path(folder.name, "o200k_base.tiktoken").write_bytes(export_tiktoken())
    os.environ["TIKTOKEN_ENCODINGS_BASE"] = folder.name
    return folder


def rendering(reference, encoding, samples, compare):
    theirs = samples.their_conversation()
    assistant = reference.Role.ASSISTANT

    def render_theirs(_):
        encoding.render_conversation_for_completion(theirs, assistant)

    def nothing_kept():
        header_tokens.cache_clear()
        piece_tokens.cache_clear()
        return samples.our_conversation()

    kept = samples.our_conversation()
    hk.render(kept)
    text = samples.long_text(100_000)
    their_message = reference.Message.from_role_and_content(reference.Role.USER, text)
    as_reference = hk.RenderOptions.REFERENCE
    assert hk.render(kept, options=as_reference) == encoding.render_conversation_for_completion(
        theirs, assistant
    )
    yield compare(
        "render 50 messages and 20 tools, nothing kept",
        hk.render,
        render_theirs,
        fresh=nothing_kept,
        bar=6,
    )
    yield compare(
        "render them with one message more",
        hk.render,
        render_theirs,
        fresh=lambda: [*kept, hk.user("And now?")],
        bar=100,
    )
    yield compare(
        "render a message of 100 KB",
        hk.render,
        lambda _: encoding.render(their_message),
        fresh=lambda: [hk.user(text)],
        bar=3,
    )


def parsing(reference, encoding, samples, compare):
    assistant = reference.Role.ASSISTANT
    for count in (20_000, 200_000):
        tokens = samples.long_completion(count)
        yield compare(
            f"parse {count:,} tokens",
            lambda _, tokens=tokens: hk.parse(tokens),
            lambda _, tokens=tokens: encoding.parse_messages_from_completion_tokens(
                tokens, assistant
            ),
            bar=15,
            rounds=9,
        )
    tokens = samples.small_messages(5_000)
    yield compare(
        "parse 5,000 small messages",
        lambda _: hk.parse(tokens, role=None),
        lambda _: encoding.parse_messages_from_completion_tokens(tokens, None),
        bar=30,
        rounds=5,
    )


def leniency(samples, compare):
    """Lenient reading of well-formed output beside strict reading: it may cost a tenth more."""
    tokens = samples.long_completion(200_000)
    small = samples.small_messages(5_000)
    for name, ours, theirs in (
        (
            "parse 200,000 tokens, leniently beside strictly",
            lambda _: hk.parse(tokens),
            lambda _: hk.parse(tokens, strict=True),
        ),
        (
            "parse 5,000 small messages, leniently beside strictly",
            lambda _: hk.parse(small, role=None),
            lambda _: hk.parse(small, role=None, strict=True),
        ),
        (
            "stream 200,000 tokens, leniently beside strictly",
            lambda _: stream_ours(tokens, 1),
            lambda _: stream_ours(tokens, 1, strict=True),
        ),
    ):
        yield compare(name, ours, theirs, bar=1 / 1.1, rounds=9)


def stream_ours(tokens, size, strict=False):
    parser = hk.Parser(strict=strict)
    if size == 1:
        for token in tokens:
            parser.feed(token)
    else:
        for start in range(0, len(tokens), size):
            parser.feed(tokens[start : start + size])


def stream_theirs(reference, encoding, tokens):
    parser = reference.StreamableParser(encoding, reference.Role.ASSISTANT)
    for token in tokens:
        parser.process(token)
        _ = parser.last_content_delta


def streaming(reference, encoding, samples, compare):
    tokens = samples.long_completion(20_000)
    for size, bar in ((1, 4), (16, 10)):
        yield compare(
            f"stream 20,000 tokens, {size} at a time",
            lambda _, size=size: stream_ours(tokens, size),
            lambda _: stream_theirs(reference, encoding, tokens),
            bar=bar,
        )


def read_ours(tokens):
    parser = hk.Parser()
    for token in tokens:
        parser.feed(token)
        len(parser.content)


def read_theirs(reference, encoding, tokens):
    parser = reference.StreamableParser(encoding, reference.Role.ASSISTANT)
    for token in tokens:
        parser.process(token)
        len(parser.current_content)


def reading(reference, encoding, samples, compare):
    """The content so far at every step: linear here, quadratic there."""
    for count in (1_000, 10_000):
        tokens = samples.long_completion(count)
        yield compare(
            f"read the content so far at each of {count:,} tokens",
            lambda _, tokens=tokens: read_ours(tokens),
            lambda _, tokens=tokens: read_theirs(reference, encoding, tokens),
            rounds=3,
        )


FIRST_RENDERING = {
    "ours": """
import harmony_kit as hk
hk.render([hk.system(current_date="2025-06-28"), hk.developer("Be brief."), hk.user("hi")])
""",
    "theirs": """
from openai_harmony import *
encoding = load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)
encoding.render_conversation_for_completion(Conversation.from_messages([
    Message.from_role_and_content(
        Role.SYSTEM, SystemContent.new().with_conversation_start_date("2025-06-28")),
    Message.from_role_and_content(
        Role.DEVELOPER, DeveloperContent.new().with_instructions("Be brief.")),
    Message.from_role_and_content(Role.USER, "hi")]), Role.ASSISTANT)
""",
}
FIRST_PARSING = {
    "ours": """
import harmony_kit as hk
hk.parse([200005, 17196, 200008, 24912, 200002])
""",
    "theirs": """
from openai_harmony import *
encoding = load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)
encoding.parse_messages_from_completion_tokens([200005, 17196, 200008, 24912], Role.ASSISTANT)
""",
}


def run_process(code, _):
    subprocess.run([sys.executable, "-c", code], check=True)


def processes(compare):
    for name, codes, bar in (
        ("a process that renders once", FIRST_RENDERING, 1 / 0.7),
        ("a process that parses once", FIRST_PARSING, 1 / 0.5),
    ):
        ours, theirs = (partial(run_process, codes[side]) for side in ("ours", "theirs"))
        yield compare(name, ours, theirs, bar=bar, rounds=11)


IMPORT = "import time; t = time.process_time(); import harmony_kit; print(time.process_time() - t)"
IMPORT_BAR = 0.050


def importing(rounds=21):
    """Seconds that the import takes beyond Python's start, in the best of some processes."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", IMPORT]
    runs = [
        subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        for _ in range(rounds)
    ]
    return min(float(run.stdout) for run in runs)


def main():
    with reference_vocabulary():
        import openai_harmony as reference

        from . import samples
        from .measure import compare

        encoding = reference.load_harmony_encoding("HarmonyGptOss")
        table = Table("", "ours, ms", "openai-harmony, ms", "ratio", "bar", box=None)
        missed = 0
        for part in (rendering, parsing, streaming, reading):
            for row in part(reference, encoding, samples, compare):
                missed += add_row(table, row)
        for row in processes(compare):
            missed += add_row(table, row)
        lenient = Table("", "lenient, ms", "strict, ms", "ratio", "bar", box=None)
        for row in leniency(samples, compare):
            missed += add_row(lenient, row)
        converted = Table("", "both, ms", "rendering, ms", "ratio", "bar", box=None)
        for row in conversion.requests():
            missed += add_row(converted, row)
    imported = importing()
    missed += imported > IMPORT_BAR
    streams, slow = conversion.table()
    turns, slow_turns = loop.table()
    constraints, slow_starts = grammar.tables()
    missed += slow + slow_turns + slow_starts
    console = Console(width=120)
    console.print(f"import harmony_kit: {imported * 1e3:.1f} ms (bar {IMPORT_BAR * 1e3:.0f})")
    for part in (table, lenient, converted, streams, turns, *constraints, hostile.table()):
        console.print(part)
    return 1 if missed else 0


def add_row(table, row):
    """Add a comparison to the table; says whether it misses its bar."""
    missed = row.bar is not None and row.ratio < row.bar
    digits = 2 if row.bar is not None and row.bar < 1 else 1
    table.add_row(
        row.name,
        f"{row.ours * 1e3:.3f}",
        f"{row.theirs * 1e3:.3f}",
        f"{row.ratio:.{digits}f}",
        "" if row.bar is None else f"{row.bar:.{digits}f}",
        style="red" if missed else None,
    )
    return missed


if __name__ == "__main__":
    sys.exit(main())
