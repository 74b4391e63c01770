"""The data of a corpus of real text: in a cache folder whose name is a hash of all that determines them, checked when
they are loaded, built where they are absent or damaged."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ablate.core.corpus import Domain, Split, Vocabulary
from ablate.core.storage import digest, file_hash, locked
from ablate.text.dataset_build import Build, Recipe
from ablate.text.packing import Array, Tokens
from ablate.text.process_pool import Pool
from ablate.text.token_shards import read_sealed, read_tokenizer
from ablate.text.tokenizer import TextTokenizer

VERIFIED = 2**31  # bytes of token ids up to which a load checks their checksums; beyond, their sizes


@dataclass(frozen=True)
class Packed:
    """Token ids of the four splits, "<domain>.<split>", mapped into memory, and the vocabulary that they share.

    sha256: of each split's shards, together, and of the tokenizer. shards: their descriptions, see
    `token_shards.tokenize`. byte_scale: by split, the bytes of its texts over those that its tokens stand for.
    """

    splits: dict[str, Tokens]
    sha256: dict[str, str]
    tokenizer: TextTokenizer
    folder: Path
    shards: list[str]
    byte_scale: dict[str, float]

    def vocabulary(self, split: str) -> Vocabulary:
        """That of a split: its tokens stand for as many bytes as its texts have, whatever the tokenizer changes in
        them, so that bits per byte are those of the text."""
        return _scaled(self.tokenizer, self.byte_scale.get(split, 1.0))

    def lengths(self, domain: Domain, side: Split) -> Array:
        """(D,) int64: tokens of each document of a split, the separator included."""
        shards = [
            read_sealed(self.folder / name) or {"files": {}} for name in self.shards if name.startswith(f"{domain}.")
        ]
        lengths = [shard["files"][side]["lengths"] for shard in shards if side in shard["files"]]
        return np.concatenate([np.empty(0, dtype=np.int64), *(np.array(part, dtype=np.int64) for part in lengths)])


def cached(root: Path, recipe: Recipe, workers: int = 0) -> Packed:
    """The recipe's data from the cache folder `root`; built where absent, stale or damaged, by one process at a time.

    workers: processes that build; 0 for one where the data are small, else one a core.
    Raises ValueError for a shelf without a usable document and for a folder that cannot be written.
    """
    folder = root / recipe.key()[:32]
    packed = _load(folder)
    if packed is not None:
        return packed
    build = Build(recipe, folder.with_suffix(".part"), workers)
    if recipe.small:
        build.choose(Pool(1))  # before the lock: what is refused leaves no file behind
    try:
        with locked(folder.with_suffix(".lock")):
            packed = _load(folder)
            if packed is None:
                _replace(folder, build)
                packed = _load(folder)
    except OSError as error:
        raise ValueError(f"corpus.cache: cannot write {root} ({error}); try corpus.cache=PATH") from error
    if packed is None:
        raise ValueError(f"corpus.cache: {folder} does not read back as written; try corpus.cache=PATH on another disk")
    return packed


def _replace(folder: Path, build: Build) -> None:
    """Puts what is built into the place of what is there; whole shards are kept."""
    if folder.is_file():
        folder.unlink()
    if folder.exists() and not build.part.exists():
        folder.rename(build.part)
    shutil.rmtree(folder, ignore_errors=True)
    build.run()
    build.part.rename(folder)


def _load(folder: Path) -> Packed | None:
    """The data, or None where they are absent or not as written: checksums, beyond `VERIFIED` bytes sizes alone."""
    meta = read_sealed(folder / "meta.json")
    if meta is None:
        return None
    files: dict[str, list] = meta["files"]
    verified = sum(size for size, _ in files.values()) <= VERIFIED
    try:
        for name, (size, sha256) in files.items():
            if (folder / name).stat().st_size != size:
                return None
            if (verified or name.endswith(".json")) and file_hash(folder / name) != sha256:
                return None
    except OSError:
        return None
    known = read_tokenizer(folder)
    if known is None:
        return None
    sha256 = {split: digest([files[name][1] for name, _ in shards]) for split, shards in meta["splits"].items()}
    splits = {}
    for split, shards in meta["splits"].items():
        filled = [(folder / name, tokens) for name, tokens in shards if tokens]
        splits[split] = Tokens(tuple(path for path, _ in filled), tuple(tokens for _, tokens in filled), meta["dtype"])
    scales = {
        split: _byte_scale(split, size, meta["token_bytes"][split]) for split, size in meta["bytes"].items() if size
    }
    return Packed(splits, {**sha256, "tokenizer": known[1]}, known[0], folder, meta["shards"], scales)


@lru_cache(maxsize=8)  # a run asks for every row
def _scaled(tokenizer: TextTokenizer, scale: float) -> Vocabulary:
    own = tokenizer.vocabulary
    if scale == 1 or own.bytes_V is None:
        return own
    return replace(own, bytes_V=tuple(scale * size for size in own.bytes_V))


def _byte_scale(split: str, text_bytes: int, token_bytes: int) -> float:
    if not token_bytes:
        raise ValueError(
            f"corpus.tokenizer: its tokens stand for none of the {text_bytes:,} bytes of {split}; try another"
        )
    return text_bytes / token_bytes
