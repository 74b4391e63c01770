"""What torch's checkpointing hides is raised as it is."""

from traceback import StackSummary

import pytest
import torch
from torch.distributed.checkpoint.api import CheckpointException

from ablate.core.interruption import Terminated
from ablate.training import checkpoint_tensors
from ablate.training.checkpoint_errors import revealed
from ablate.training.checkpoint_writer import Writer

CUT_SHORT = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")


@pytest.mark.parametrize(
    ("met", "wanted", "said"),
    [
        ([CUT_SHORT], OSError, "less than was to be written"),
        ([KeyError("x")], KeyError, "x"),
        ([KeyError("x"), CUT_SHORT], OSError, "less"),
        ([KeyError("x"), OSError(5, "I/O error"), Terminated()], Terminated, ""),
        ([CUT_SHORT, KeyboardInterrupt()], KeyboardInterrupt, ""),
        ([RuntimeError("PytorchStreamReader failed reading file; inline_container")], RuntimeError, "reading"),
    ],
)
def test_signals_come_first_then_the_system_then_the_rest(met, wanted, said):
    with pytest.raises(wanted, match=said), revealed():
        raise CheckpointException("write", {rank: (error, StackSummary()) for rank, error in enumerate(met)})


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Terminated])
def test_a_signal_while_tensors_are_read_is_that_signal(stop, tmp_path, monkeypatch):
    writer = Writer(tmp_path, 0, 1)
    writer.write("000000001-0", {"network": {"weight": torch.ones(3)}}, {"step": 1})
    writer.wait()

    def interrupted(*_, **__):
        raise stop

    monkeypatch.setattr(torch, "load", interrupted)
    with pytest.raises(stop):
        checkpoint_tensors.fill(tmp_path / "000000001-0", {"network": {"weight": torch.zeros(3)}})
