"""What is chosen by rule."""

import dataclasses

import pytest

from ablate.compute import device
from ablate.compute.device import COMPILE_FLOPS, Compile, Device, resolve_compile
from ablate.training.resolution import resolve
from experiments.cli.compose import jobs
from experiments.cli.run_command import RUN


@pytest.mark.parametrize(
    ("times", "compilers", "wanted"), [(1.01, True, "always"), (0.99, True, "never"), (2, False, "never")]
)
def test_a_cpu_compiles_what_pays_it_back_where_it_can(monkeypatch, times, compilers, wanted):
    monkeypatch.setattr(device.shutil, "which", lambda name: name if compilers else None)
    assert resolve_compile(Compile.auto, Device.cpu, times * COMPILE_FLOPS["cpu"]) == wanted
    assert resolve_compile(Compile.never, Device.cpu, 1e20) is Compile.never
    assert resolve_compile(Compile.always, Device.cpu, 1) is Compile.always


def test_a_pack_is_compiled_where_its_runs_together_pay_it_back():
    """And its runs keep their names, whichever way they are computed."""
    RUN.register()
    (run,) = jobs(RUN, ["regime=ar_to_bidllm", "device=cpu", "budget=study", "corpus=trace"])
    least = COMPILE_FLOPS["cpu"] / run.flops
    assert least > 1
    alone, few, many = (resolve(dataclasses.replace(run, pack=n)) for n in (1, int(least), int(least) + 1))
    assert (alone.compile, few.compile, many.compile) == (Compile.never, Compile.never, Compile.always)
    assert alone.label == many.label == resolve(dataclasses.replace(run, compile=Compile.always)).label
