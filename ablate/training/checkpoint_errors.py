"""What torch.distributed.checkpoint met. Its CheckpointException hides that, from its context too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributed.checkpoint.api import CheckpointException

from ablate.core.interruption import Terminated


@contextmanager
def revealed() -> Iterator[None]:
    """Inside, what torch met is raised as it is: first a signal that asked to stop, then what the system refused
    (OSError), then the first of the rest."""
    try:
        yield
    except CheckpointException as failed:
        met = [error for error, _ in failed.failures.values()]
        signals = [error for error in met if isinstance(error, KeyboardInterrupt | Terminated)]
        refused = [found for error in met if (found := _system_error(error))]
        raise [*signals, *refused, *met][0] from None


def _system_error(error: BaseException) -> OSError | None:
    """The system's error in what was met. Of a write that was cut short torch's zip file tells the position alone, and
    an error that comes from another process has lost where it came from."""
    within: BaseException | None = error
    while within is not None:
        if isinstance(within, OSError):
            return within
        within = within.__cause__ or within.__context__
    told = str(error)
    writing = "StreamWriter" in told or ("inline_container" in told and "StreamReader" not in told)
    if isinstance(error, RuntimeError) and writing:
        return OSError(f"less than was to be written ({told.splitlines()[0]})")
    return None
