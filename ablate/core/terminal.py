"""The terminal: what is printed is shown as it is, never read as markup, since names and paths are the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def terminal(**options: Any) -> Console:
    """A console of rich, on which `[a]`, `:b:` and the like are plain text; colours are given as `style`."""
    from rich.console import Console  # here: benchmarks run where it is not installed

    return Console(markup=False, emoji=False, **options)
