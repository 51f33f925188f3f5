r"""A shape as a structural tag of xgrammar: a plain dict, as `json.dumps` writes it.

The tag holds one grammar, and not the formats that structural tags have for tokens, texts and
schemas, since none of these does what it says (seen in 0.2.5 and 0.2.8):

- `json_schema` leaves out keywords in silence: `minLength` beside `pattern`, `uniqueItems`,
  `dependentRequired`, `not`, `if`, what stands beside `$ref` and `anyOf`, all but the first of
  `allOf`, types beside `enum`. It admits any number of blanks, and no `\"` in a string
  with `maxLength`. And special tokens fit into its strings.
- `any_tokens` takes no notice of `max_tokens` in 0.2.5.
- The compiler's cache takes each `token` for any other, so that where another grammar was
  compiled before, the mask has its token. `ebnf` says how it is prevented.
"""

from __future__ import annotations

from typing import Any

from ._ebnf import ebnf_grammar
from ._shape import Shape


def structural_tag(shape: Shape) -> dict[str, Any]:
    """Write a shape as a structural tag.

    The tokens that end a completion are part of it. They must not be among the matcher's stop
    tokens, which xgrammar admits after the end and nowhere else.

    Args:
        shape: The shape.

    Raises:
        GrammarError: A schema or a pattern says what the rules cannot; the error names it.
    """
    return {
        "type": "structural_tag",
        "format": {"type": "grammar", "grammar": ebnf_grammar(shape)},
    }
