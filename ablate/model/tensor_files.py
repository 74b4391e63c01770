"""Tensors in files: safetensors, and of a stranger's checkpoint pickles that torch.save wrote, too. No code that these
might hold is run, and what is no plain tensor of numbers in memory is refused by name.

Files are reopened for each tensor, since pages once read stay in memory as long as a file is open.
"""

from __future__ import annotations

import functools
import pickletools
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.core.foreign_files import require_plain
from ablate.core.storage import refused_write
from ablate.model.hf_settings import TYPE

if TYPE_CHECKING:
    from torch import Tensor

HEADER = 2**25  # bytes of the header of a safetensors file; a thousand tensors take a tenth of a megabyte
PICKLED = 2**25  # bytes of a pickle apart from the numbers; likewise
SHORT = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
SAFETENSORS = "a safetensors file, got a damaged one"
PICKLES = "a file of tensors that torch.save wrote, got other content"


def write_safetensors(file: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file. Raises WriteError where the system refuses it, such as on a full disk."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, file, metadata)
    except SafetensorError as error:
        raise refused_write(file, str(error)) from None


def contents(file: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of every tensor of a file. Raises ValueError for a file that is damaged, or hostile."""
    if file.suffix == ".bin":
        named = {name: (tuple(one.shape), str(one.dtype).removeprefix("torch.")) for name, one in _pickle(file).items()}
        return {name: (shape, SHORT.get(kind, kind)) for name, (shape, kind) in named.items()}
    with _safetensors(file) as content:
        slices = {name: content.get_slice(name) for name in content.keys()}  # noqa: SIM118, it is no dict
        return {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}


def tensor(file: Path, name: str) -> Tensor:
    """One tensor of a file. Raises ValueError as `contents` does."""
    if file.suffix == ".bin":
        return _pickle(file)[name]
    with _safetensors(file) as content:
        return content.get_tensor(name)


@contextmanager
def _safetensors(file: Path) -> Iterator[Any]:
    with _refusing(file, SAFETENSORS):
        from safetensors import safe_open

        require_plain(file)
        with file.open("rb") as raw:
            header = int.from_bytes(raw.read(8), "little")
        if header > HEADER:
            raise ValueError(f"its header has {header:,} bytes, wanted {HEADER:,} at most")
        with safe_open(file, framework="pt") as content:
            yield content


def _pickle(file: Path) -> dict[str, Tensor]:
    """The tensors of a pickle, mapped into memory."""
    with _refusing(file, PICKLES):
        import torch

        found = require_plain(file)
        _require_harmless(file, found.st_size, found.st_mtime_ns)
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(state, dict):
            raise ValueError(f"{type(state).__name__}, wanted tensors by name")
        for name in state:
            if not isinstance(name, str):
                raise ValueError(f"{type(name).__name__} as a name")
        kept = {name: one for name, one in state.items() if isinstance(one, torch.Tensor)}
        for name, one in kept.items():
            if type(one) not in (torch.Tensor, torch.nn.Parameter) or one.layout is not torch.strided:
                raise ValueError(f"{name} is {type(one).__name__} in the layout {one.layout}")
            if one.device.type != "cpu" or one.is_quantized or one.is_nested:
                raise ValueError(f"{name} is quantised, nested or without numbers")
            if one.untyped_storage().nbytes() < one.numel() * one.itemsize:
                raise ValueError(f"{name} has more numbers than lie in the file")
        return kept


@functools.lru_cache(maxsize=1000)
def _require_harmless(file: Path, size: int, mtime_ns: int) -> None:
    """Raises ValueError for what would take memory or time without end: compressed parts, a large pickle, keys whose
    hashes do.

    size, mtime_ns: of the file, so that one that changes is looked at again.
    """
    with zipfile.ZipFile(file) as parts:
        for part in parts.infolist():
            if part.compress_type != zipfile.ZIP_STORED or part.compress_size != part.file_size:
                raise ValueError(f"its part {part.filename[:40]} is compressed")
            if part.filename.endswith("data.pkl"):
                if part.file_size > PICKLED:
                    raise ValueError(f"its pickle has {part.file_size:,} bytes, wanted {PICKLED:,} at most")
                _require_flat(parts.read(part))


def _require_flat(pickled: bytes) -> None:
    """Raises ValueError for a tuple that is used twice and for integers beyond 60 bits.

    A tuple of twice the same tuple, thirty times over, takes years to hash; large integers can all have one hash. What
    torch.save writes has neither.
    """
    tuples: set[Any] = set()
    memo, last = 0, ""
    for code, argument, _ in pickletools.genops(pickled):
        name = code.name
        if name == "DUP" or (name in ("GET", "BINGET", "LONG_BINGET") and argument in tuples):
            raise ValueError("a tuple is used twice")
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = memo if name == "MEMOIZE" else argument
            (tuples.add if last.startswith("TUPLE") else tuples.discard)(place)
            memo += 1
        elif isinstance(argument, int) and abs(argument) >= 2**60:
            raise ValueError("an integer has more than 60 bits")
        last = name


@contextmanager
def _refusing(file: Path, wanted: str) -> Iterator[None]:
    """Whatever a library meets in bytes that its like did not write is one ValueError of one line."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # libraries in Rust panic, which is no Exception
        ours = getattr(error, "strerror", None) or (str(error) if type(error) in (ValueError, OSError) else "")
        reason = (ours or f"{type(error).__name__}: {error}").splitlines()[0][:200]
        raise ValueError(f"init: {file}: wanted {wanted} ({reason}); {TYPE}") from None
