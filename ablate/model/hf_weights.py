"""Checkpoints of Hugging Face: which files they have, what is in them, and whether a run can begin there.

Weights are read tensor by tensor out of files that are mapped into memory, so that loading takes one copy of the
network and one tensor beside it.

Shapes: V rows of the embedding, W width.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.core.corpus import Vocabulary
from ablate.core.foreign_files import TOKENIZER as TOKENIZER_BYTES
from ablate.core.foreign_files import read_json, require_plain, require_size, tokens_of
from ablate.core.storage import digest, file_hash
from ablate.core.validation import path_of
from ablate.model.config import ModelConfig
from ablate.model.hf_config import config_path, names, shape_of
from ablate.model.hf_settings import TYPE
from ablate.model.tensor_files import contents
from ablate.model.tensor_files import tensor as tensor_of

if TYPE_CHECKING:
    from torch import Tensor

SAFE, PICKLE = "model.safetensors", "pytorch_model.bin"
TOKENIZER = "tokenizer.json"
VOCABULARY = "vocabulary.json"  # symbols by id, in a checkpoint of a world, which has no tokenizer
FLOATS = ("F64", "F32", "F16", "BF16")
IGNORED = "rotary_emb.inv_freq"  # a table that old checkpoints hold, recomputed here


@dataclass(frozen=True)
class Weights(Mapping[str, "Tensor"]):
    """A checkpoint's weights by our names, fp32, each read when it is asked for.

    files: where each tensor lies, by transformers' name. rows: of embedding and head, at least as many as the
    checkpoint has. Rows beyond those are the mean of those: a new token begins as an average one.
    """

    shape: ModelConfig
    rows: int
    files: Mapping[str, Path]

    def __getitem__(self, name: str) -> Tensor:
        import torch

        theirs = names(self.shape)[name]
        tensor = tensor_of(self.files[theirs], theirs).to(torch.float32)
        if not tensor.isfinite().all():
            raise ValueError(
                f"init: {self.files[theirs]}: tensor {theirs}: wanted finite numbers, got NaN or infinity; {TYPE}"
            )
        if name not in ("embedding.weight", "head.weight") or len(tensor) == self.rows:
            return tensor
        added_VW = tensor.mean(0, keepdim=True).expand(self.rows - len(tensor), -1)
        return torch.cat([tensor, added_VW])

    def __iter__(self) -> Iterator[str]:
        return iter(names(self.shape))

    def __len__(self) -> int:
        return len(names(self.shape))


def read_weights(folder: Path, shape: ModelConfig, rows: int, pickle: bool = False) -> Weights:
    """The weights of a checkpoint of this shape, with `rows` rows of embedding and head.

    pickle: are pytorch_model.bin files read where there are no safetensors? Raises ValueError, naming tensor and file,
    for files that are absent or damaged and for tensors that are missing, left over or of another shape or type.
    """
    named = {file: contents(file) for file in _weight_files(folder, pickle)}
    files = {name: file for file, content in named.items() for name in content}
    found = {name: size for content in named.values() for name, size in content.items()}
    wanted = _sizes(shape, shape_of(folder).vocabulary)
    missing = sorted(wanted.keys() - found.keys())
    extra = sorted(name for name in found.keys() - wanted.keys() if not name.endswith(IGNORED))
    if shape.tied and "lm_head.weight" in extra and _same_head(files, found):
        extra.remove("lm_head.weight")
    if missing or extra:
        what = f"no tensor {missing[0]}" if missing else f"a tensor {extra[0]}, in {files[extra[0]].name}"
        more = f" (and {len(missing + extra) - 1} more)" if len(missing + extra) > 1 else ""
        raise ValueError(
            f"init: {folder}: wanted the {len(wanted)} tensors of its config.json, got {what}{more}; {TYPE}"
        )
    for name, size in wanted.items():
        if found[name][0] != size or found[name][1] not in FLOATS:
            raise ValueError(
                f"init: {files[name]}: tensor {name}: wanted the shape {size} of config.json in floating "
                f"point, got {found[name][0]} in {found[name][1]}; {TYPE}"
            )
    return Weights(shape, rows, files)


def _sizes(shape: ModelConfig, rows: int) -> dict[str, tuple[int, ...]]:
    """ModelConfig of every tensor that a checkpoint must have, by transformers' name."""
    import torch

    from ablate.model.transformer import Transformer

    with torch.device("meta"):
        own = Transformer(shape, rows, mask_id=0).state_dict()
    return {theirs: tuple(own[ours].shape) for ours, theirs in names(shape).items()}


def _same_head(files: Mapping[str, Path], found: Mapping[str, tuple[tuple[int, ...], str]]) -> bool:
    """Whether the head stored in a tied checkpoint equals its embedding."""
    head, embedding = "lm_head.weight", "model.embed_tokens.weight"
    if found[head] != found.get(embedding) or found[head][1] not in FLOATS:
        return False
    return bool((tensor_of(files[head], head) == tensor_of(files[embedding], embedding)).all())


def _weight_files(folder: Path, pickle: bool) -> list[Path]:
    """The files that hold the weights. Raises ValueError where one is missing, or where all are pickles."""
    for whole in (SAFE, PICKLE) if pickle else (SAFE,):
        index = folder / f"{whole}.index.json"
        if (folder / whole).exists():
            return [folder / whole]
        if index.exists():
            return _shards(index)
    if any((folder / name).exists() for name in (PICKLE, f"{PICKLE}.index.json")):
        raise ValueError(
            f"init: {folder}: wanted {SAFE}, got {PICKLE}, a pickle; convert it, or type init_pickle=true "
            "to read its tensors all the same"
        )
    raise ValueError(f"init: {folder}: wanted {SAFE} or {SAFE}.index.json, got neither; {TYPE}")


def _shards(index: Path) -> list[Path]:
    try:
        content = read_json(index)
        places = content.get("weight_map") if isinstance(content, dict) else None
        kind = Path(index.name.removesuffix(".index.json")).suffix
        if not isinstance(places, dict) or not all(_is_name(name, kind) for name in places.values()):
            raise ValueError(f"it does not say in which {kind} files tensors lie")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"init: {index}: wanted the index of a sharded checkpoint, got a damaged file ({_reason(error)}); {TYPE}"
        ) from None
    shards = sorted({index.parent / name for name in places.values()})
    for shard in shards:
        if not shard.exists():
            raise ValueError(f"init: {index}: wanted the shard {shard.name}, got no such file; {TYPE}")
    return shards


def _is_name(value: Any, kind: str) -> bool:
    """Of a file beside the index, of the index's own kind: nothing else is opened for a stranger."""
    return isinstance(value, str) and value.endswith(kind) and not {"/", "\0"} & set(value)


def _reason(error: Exception) -> str:
    """Why a file cannot be used: what the system says, or the first line of what the reader says."""
    return getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0][:200]


def folder_of(init: str) -> Path:
    """The folder that `init` names. Raises ValueError where it names none."""
    kind, _, path = init.partition(":")
    if kind != "hf" or not path:
        raise ValueError(f"init={init}: wanted hf: and the folder of a checkpoint, got another word; {TYPE}")
    return path_of("init", path)


def content_hash(init: str, pickle: bool = False) -> str:
    """Hash of a checkpoint's weights, settings and tokens, wherever it lies. Raises ValueError for one that is not
    whole."""
    folder = folder_of(init)
    shape_of(folder)
    weights = _weight_files(folder, pickle)
    for file in weights:
        contents(file)  # what is no file of tensors may have any size: it is refused before its bytes are read
    files = [config_path(folder), *weights]
    files += [path for path in (folder / TOKENIZER, folder / VOCABULARY) if path.exists()]
    return digest({file.name: _hash(file) for file in files})


def _hash(file: Path) -> str:
    try:
        stat = require_size(file, TOKENIZER_BYTES) if file.suffix == ".json" else require_plain(file)
        return _hashed(file, stat.st_size, stat.st_mtime_ns)
    except (OSError, ValueError) as error:
        raise ValueError(f"init: {file}: wanted a file that can be read, got none ({_reason(error)}); {TYPE}") from None


@functools.lru_cache(maxsize=1000)
def _hashed(file: Path, size: int, mtime_ns: int) -> str:
    return file_hash(file)


def require_fit(init: str, shape: ModelConfig, vocabulary: Vocabulary) -> None:
    """Raises ValueError unless a network of this shape on a corpus with this vocabulary can begin where `init` says,
    which may be nowhere."""
    if init:
        _require_same(folder_of(init), shape, vocabulary)
    if shape.mask_id not in (-1, vocabulary.mask_id):
        raise ValueError(
            f"model.mask_id: wanted {vocabulary.mask_id}, as the corpus has it, got {shape.mask_id}; type "
            "model.mask_id=-1"
        )


def _require_same(folder: Path, shape: ModelConfig, vocabulary: Vocabulary) -> None:
    """Raises ValueError where shape or tokens are not the checkpoint's."""
    theirs = shape_of(folder)
    for field in dataclasses.fields(ModelConfig):
        wanted, came = getattr(theirs, field.name), getattr(shape, field.name)
        if wanted != came and field.name not in ("vocabulary", "mask_id"):
            raise ValueError(f"model.{field.name}: wanted {wanted}, as {folder} has it, got {came}; leave out model=")
    if shape.vocabulary < theirs.vocabulary:
        raise ValueError(
            f"model.vocabulary: wanted {theirs.vocabulary} or more, the rows of {folder}, got "
            f"{shape.vocabulary}; type model.vocabulary={theirs.vocabulary}"
        )
    symbols = symbols_of(folder)
    symbols.pop(vocabulary.mask_id, None)
    ours = {i: s for i, s in enumerate(vocabulary.symbols) if s and i != vocabulary.mask_id}
    if ours != symbols:
        raise ValueError(
            f"init: the corpus's {len(ours)} tokens are not the {len(symbols)} of {folder}, whose rows would then mean "
            f"other tokens than they learned; type corpus=python_source, or corpus=text, with corpus.tokenizer={folder}"
        )
    if max(ours) >= theirs.vocabulary:
        raise ValueError(
            f"init: {folder}: wanted a row for every token, got {theirs.vocabulary} rows for the id {max(ours)}; {TYPE}"
        )


def symbols_of(folder: Path) -> dict[int, str]:
    """The checkpoint's tokens by id: of its tokenizer.json, or of a world's vocabulary. Raises ValueError where
    there is none that can be read."""
    tokenizer, listed = folder / TOKENIZER, folder / VOCABULARY
    file = listed if listed.exists() and not tokenizer.exists() else tokenizer
    try:
        content = read_json(file, TOKENIZER_BYTES)
        if file is tokenizer:
            return {id: symbol for symbol, id in tokens_of(content)[0].items()}
        if not isinstance(content, list) or not all(isinstance(symbol, str) for symbol in content):
            raise ValueError("it is no list of symbols")
        return {i: symbol for i, symbol in enumerate(content) if symbol}
    except (OSError, ValueError) as error:
        raise ValueError(
            f"init: {file}: wanted the checkpoint's tokenizer, got none that can be read ({_reason(error)}); {TYPE}"
        ) from None
