"""A folder in which it is not safe to import anything."""

import pytest

HOSTILE = [
    *("pickle", "torch", "numpy", "json", "yaml", "hydra", "sitecustomize", "usercustomize", "ablate", "figures"),
    *("tempfile", "struct", "socket", "selectors", "multiprocessing", "argparse", "random", "pandas", "pyarrow"),
    *("tokenizers", "safetensors", "lightning", "optuna", "rich", "matplotlib"),
]


@pytest.fixture
def hostile(tmp_path):
    """A folder whose modules leave a mark where they are imported."""
    for name in HOSTILE:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r} + chr(10))\n")
    return tmp_path
