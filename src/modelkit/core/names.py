"""Names that one format has and another can't spell."""

from __future__ import annotations

import keyword
import re


def identifier(name: str) -> str:
    """What an input of this name (`images:0`, `input.1`, `0`) is called where names must be identifiers, as in torch programs."""
    found = re.sub(r"\W", "_", name, flags=re.ASCII)
    return found if found.isidentifier() and not keyword.iskeyword(found) else f"input_{found}"
