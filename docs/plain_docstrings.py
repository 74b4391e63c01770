"""An extension of Griffe: what a docstring writes as table[row][column] is no link."""

from __future__ import annotations

import re
from typing import Any

import griffe


class PlainDocstrings(griffe.Extension):
    """Escapes brackets that follow brackets, outside of code."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring is not None:
            parts = re.split(r"(`[^`]*`)", obj.docstring.value)
            obj.docstring.value = "".join(part if part[:1] == "`" else part.replace("][", r"]\[") for part in parts)
