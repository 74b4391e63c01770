"""A hook of MkDocs: pages link pictures as they lie in the repository (../figures/examples), the site has copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

EXAMPLES = "figures/examples"


def on_files(files: Files, config: Any) -> Files:
    """Adds the example pictures to the site."""
    root = Path(config.config_file_path).parent
    for path in sorted((root / EXAMPLES).glob("*.png")):
        files.append(File.generated(config, f"{EXAMPLES}/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links of a page to these copies."""
    return markdown.replace(f"](../{EXAMPLES}/", f"]({EXAMPLES}/")
