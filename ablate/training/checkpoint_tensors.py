"""Tensors of a checkpoint, read by torch.distributed.checkpoint. Its list of them is a pickle, of which nothing is made
but the plain classes that torch writes there: a checkpoint may be a stranger's.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata

from ablate.core.foreign_files import require_inside, require_size
from ablate.core.storage import Damaged
from ablate.training.checkpoint_errors import revealed

LIST = ".metadata"
MOST = 2**28  # bytes of the list; a thousand tensors in a thousand parts take a fifth of that
MADE = {
    "torch": {"Size"},
    "torch.serialization": {"_get_layout"},
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "pathlib": {"PosixPath", "WindowsPath"},
    "pathlib._local": {"PosixPath", "WindowsPath"},  # where Python 3.13 keeps them
}


def fill(path: Path, tensors: dict[str, Any]) -> None:
    """Fills tensors, each process its own part of sharded ones, from a checkpoint of any number of processes. Raises
    Damaged where its list of tensors is not one."""
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = _Reader(path)
    reader.read_metadata()  # here first: torch hides what it raises
    with revealed():
        load(tensors, storage_reader=reader, no_dist=not torch.distributed.is_initialized())


def weights_at(path: Path) -> dict[str, Tensor]:
    """Weights, whole, of a checkpoint. Raises Damaged as `fill` does."""
    prefix = "network."
    weights = {}
    for name, part in _Reader(path).read_metadata().state_dict_metadata.items():
        if name.startswith(prefix):
            if not isinstance(part, TensorStorageMetadata):
                raise Damaged(f"{path / LIST}: wanted a tensor as {name}, got {type(part).__name__}")
            weights[name.removeprefix(prefix)] = torch.empty(part.size, dtype=part.properties.dtype)
    fill(path, {"network": weights})
    return weights


class _Reader(FileSystemReader):
    """Torch's, but for how it reads the list."""

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        file = Path(self.path) / LIST
        try:
            require_size(file, MOST)
            with file.open("rb") as content:
                found = _Unpickler(content).load()
            if not isinstance(found, Metadata):
                raise ValueError(type(found).__name__)
            for part in found.storage_data.values():
                require_inside(file.parent, part.relative_path)
        except Exception as error:  # whatever unpickling meets in bytes that torch did not write
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise Damaged(f"{file}: wanted a checkpoint's list of tensors, got other content ({reason})") from None
        if found.storage_meta is None:
            found.storage_meta = StorageMeta()
        found.storage_meta.load_id = self.load_id
        return found


STEPWISE: Any = pickle._Unpickler  # type: ignore[attr-defined]  # in Python: of the one in C no step can be refused


class _Unpickler(STEPWISE):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if name in MADE.get(module, ()) or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise ValueError(f"it names {module}.{name}")

    def load_build(self) -> None:
        if callable(self.stack[-2]):
            raise ValueError("it changes a class")
        super().load_build()

    dispatch: ClassVar[dict[int, Any]] = {**STEPWISE.dispatch, pickle.BUILD[0]: load_build}
