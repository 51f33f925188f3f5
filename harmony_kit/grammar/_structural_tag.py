r"""A grammar as a structural tag of xgrammar: a plain dict that `json.dumps` accepts.

The tag holds one EBNF grammar. The formats that structural tags have for tokens, texts and schemas
are not used, since none of them does what it promises (seen in 0.2.5 and 0.2.8):

- `json_schema` silently drops keywords: `minLength` next to `pattern`, `uniqueItems`,
  `dependentRequired`, `not`, `if`, what is next to `$ref` and `anyOf`, all but the first schema of
  `allOf`, types next to `enum`. It admits any amount of whitespace, and no `\"` in a string with
  `maxLength`. And special tokens fit into its strings.
- `any_tokens` ignores `max_tokens` in 0.2.5.
- The compiler's cache confuses `token`s: where another grammar was compiled before, the mask has
  the token of that one. `_ebnf.token_text` prevents this.
"""

from __future__ import annotations

from typing import Any

from ._ebnf import ebnf_grammar
from ._nodes import Node


def structural_tag(node: Node) -> dict[str, Any]:
    """Write a grammar as a structural tag; see `ebnf_grammar` for stop tokens and errors."""
    grammar = {"type": "grammar", "grammar": ebnf_grammar(node)}
    return {"type": "structural_tag", "format": grammar}
