"""What several tests share: commands that are typed without starting a process, and a machine with a sandbox."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """A function that types words to a command in this process, in an empty folder: exit code, output and errors."""
    from hydra.core.config_store import ConfigStore

    from experiments.cli import entry

    store = ConfigStore.instance()

    def run(command: Any, job: Callable[[Any], None], *words: str) -> tuple[int | str | None, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "text-cache"))
        # Other commands of this process have put their groups into Hydra's store; --help would list them too.
        monkeypatch.setattr(
            store, "repo", {key: store.repo[key] for key in store.repo if key.startswith(("hydra", "_"))}
        )
        monkeypatch.setattr(sys, "argv", [command.script, *words])
        code: int | str | None = 0
        try:
            entry.main(command, job)
        except SystemExit as left:
            code = left.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def sandboxed() -> None:
    """Skips where this machine has no sandbox for judged programs."""
    from ablate.code_tasks import sandbox
    from ablate.core.validation import UsageError

    try:
        sandbox.require_sandbox(sandbox.Limits(), False)
    except UsageError as error:
        pytest.skip(str(error))
