"""Laws of building: neither the number of workers, nor a kill, nor damage changes a byte, and whole work is kept."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ablate.core.corpus import SPLITS, Domain, Split
from ablate.text import dataset_build, dataset_cache, document_split, sources
from ablate.text.corpora import Text
from ablate.text.near_duplicates import SAME, Duplicates, Seen, _jaccard, sketch
from ablate.text.readers import Found
from tests.text.prose import content, fill, prose

SLOW = """
import time
from ablate.text.tokenizer import TextTokenizer

encode = TextTokenizer.encode

def slow(self, texts):
    time.sleep(0.1)
    return encode(self, texts)

TextTokenizer.encode = slow
"""
SCRIPT = """
import json, sys
from ablate.text import dataset_build as build; from ablate.text import sources as files
from ablate.text.corpora import Text

files.BUNDLE, build.SMALL = 3000, 0
Text(**json.loads(sys.argv[1])).check()
"""


def started(corpus: Text, folder: Path, everywhere: str = SLOW) -> subprocess.Popen[str]:
    """A build with two workers by a script without `if __name__ ...`, where each of the three runs `everywhere`."""
    (folder / "sitecustomize.py").write_text(everywhere)
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "script.py"), json.dumps(dataclasses.asdict(corpus) | {"workers": 2})]
    path = os.pathsep.join([str(folder), *sys.path])
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Text:
    """A corpus that is built as a large one is: in pieces, with nothing kept in memory."""
    monkeypatch.setattr(sources, "BUNDLE", 3000)
    monkeypatch.setattr(dataset_build, "SMALL", 0)
    new, general = fill(tmp_path / "new", 0, 24), fill(tmp_path / "general", 100, 6)
    rows = [json.dumps({"text": prose(200 + i, lines=9)}) for i in range(40)]
    (new / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return Text(
        folder=str(new), general=str(general), tokens=300, length=16, answer=4, workers=1, cache=str(tmp_path / "cache")
    )


def built(corpus: Text) -> Path:
    (folder,) = (path for path in Path(corpus.cache).iterdir() if path.is_dir())
    return folder


def test_large_and_small_builds_give_the_same_rows(corpus: Text, tmp_path: Path, monkeypatch) -> None:
    rows = corpus.batch(range(50), seed=1)
    assert len(list(built(corpus).glob("new.*.train.bin"))) > 8
    monkeypatch.setattr(dataset_build, "SMALL", 2**25)
    monkeypatch.setattr(sources, "BUNDLE", 2**24)
    other = dataclasses.replace(corpus, cache=str(tmp_path / "other"))
    assert (other.batch(range(50), seed=1) == rows).all()
    assert len(list(built(other).glob("new.*.train.bin"))) == 1


def test_bytes_of_documents_are_bytes_of_tokens(corpus: Text) -> None:
    corpus.check()
    meta = json.loads((built(corpus) / "meta.json").read_text())
    for domain, paths in {Domain.new: Path(corpus.folder), Domain.general: Path(corpus.general)}.items():
        texts = [path.read_text(encoding="utf-8") for path in paths.rglob("*.txt")]
        texts += [json.loads(line)["text"] for path in paths.glob("*.jsonl") for line in path.read_text().splitlines()]
        splits = [f"{domain}.{split}" for split in SPLITS]
        assert sum(meta["documents"][split] for split in splits) == len(texts)
        assert sum(meta["bytes"][split] for split in splits) == sum(len(text.encode()) for text in texts)
        bytes_V = np.array(corpus.vocabulary.bytes_V)
        tokens = [corpus._packed.splits[split] for split in splits]
        assert sum(bytes_V[t.read(0, len(t))].sum() for t in tokens) == sum(len(text.encode()) for text in texts)


@pytest.mark.skipif(sys.platform != "linux", reason="it looks at /proc")
def test_a_killed_build_goes_on_with_any_number_of_workers(corpus: Text, tmp_path: Path) -> None:
    child = started(corpus, tmp_path)
    cache, deadline = Path(corpus.cache), time.monotonic() + 60
    while len(shards := list(cache.glob("*.part/*.0000*.json"))) < 3:
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    child.send_signal(signal.SIGKILL)
    child.communicate()
    while any(_alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "workers outlive the process that started them"
        time.sleep(0.02)
    whole = {path.name: path.stat().st_mtime_ns for path in cache.glob("*.part/*.0000*.json")}
    assert len(shards) <= len(whole) < 20
    corpus.check()
    unbroken = dataclasses.replace(corpus, cache=str(tmp_path / "unbroken"))
    unbroken.check()
    assert content(built(corpus)) == content(built(unbroken))
    assert built(corpus).name == built(unbroken).name
    assert {name: (built(corpus) / name).stat().st_mtime_ns for name in whole} == whole
    assert corpus.fingerprint() == unbroken.fingerprint()


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_damaged_shard_alone_is_made_again(corpus: Text) -> None:
    rows = corpus.batch(range(50), seed=1)
    folder = built(corpus)
    before, written = content(folder), {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    shards = sorted(folder.glob("new.*.train.bin"))
    damaged = bytearray(shards[1].read_bytes())
    damaged[9] ^= 1
    os.truncate(shards[3], 10)
    shards[1].write_bytes(damaged)
    assert (dataclasses.replace(corpus).batch(range(50), seed=1) == rows).all()
    assert content(folder) == before
    new = {path.name for path in folder.iterdir() if path.stat().st_mtime_ns != written[path.name]}
    pair = {name for shard in (shards[1], shards[3]) for name in before if name.startswith(shard.name[:10])}
    assert new == {*pair, "meta.json"}


def test_beyond_some_size_only_sizes_are_checked(corpus: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus.check()
    monkeypatch.setattr(dataset_cache, "VERIFIED", 0)
    shard = min(built(corpus).glob("new.*.train.bin"))
    raw = shard.read_bytes()
    shard.write_bytes(bytes(len(raw)))
    dataclasses.replace(corpus).check()
    assert shard.read_bytes() == bytes(len(raw))
    shard.write_bytes(raw[:-2])
    dataclasses.replace(corpus).check()
    assert shard.read_bytes() == raw


def test_a_dead_worker_is_one_line_and_what_was_done_is_kept(corpus: Text, tmp_path: Path) -> None:
    child = started(corpus, tmp_path, SLOW.replace("time.sleep(0.1)", "import os; os._exit(9)"))
    said = child.communicate(timeout=60)[1].strip().splitlines()[-1]
    assert said.startswith("ValueError: corpus.workers: a worker process died (status 9")
    assert list(Path(corpus.cache).glob("*.part/census/*.npz"))


def test_a_census_is_read_as_it_was_written_or_not_at_all(tmp_path: Path) -> None:
    """Flipped bits and shorter lengths all over the file."""
    path = tmp_path / "new.000001.npz"
    found = [(i, Found(f"file {i}", prose(i))) for i in range(2)]
    made = document_split.census_of(found, 2, Duplicates.near)
    made.write(path)
    raw, again = path.read_bytes(), document_split.read_census(path)
    assert again is not None
    for f in dataclasses.fields(made):
        np.testing.assert_array_equal(getattr(again, f.name), getattr(made, f.name))
    flipped = (bytes([*raw[:i], raw[i] ^ 1 << bit, *raw[i + 1 :]]) for i in range(0, len(raw), 7) for bit in range(8))
    for damaged in (*flipped, *(raw[:length] for length in range(0, len(raw), 13))):
        path.write_bytes(damaged)
        assert document_split.read_census(path) is None


def test_exact_duplicates_keep_what_is_only_near(corpus: Text) -> None:
    folder = Path(corpus.folder)
    (folder / "same.txt").write_text(prose(0), encoding="utf-8")
    (folder / "near.txt").write_text(prose(0) + "\n", encoding="utf-8")
    counts = []
    for kind in Duplicates:
        one = dataclasses.replace(corpus, duplicates=kind)
        one.check()
        counts.append(sum(len(one._packed.lengths(Domain.new, split)) for split in (Split.train, Split.test)))
    assert counts == [64, 65]


@pytest.mark.slow
def test_the_index_finds_what_all_pairs_find() -> None:
    rng, seen, kept = np.random.default_rng(0), Seen(), []
    texts = [prose(i, lines=int(rng.integers(1, 60))) for i in range(40)]
    for i in range(300):
        words = texts[int(rng.integers(len(texts)))].split()
        for place in rng.integers(len(words), size=int(rng.integers(0, 1 + len(words) // 20))):
            words[place] = f"other{i}"
        new = sketch(" ".join(words[: len(words) - int(rng.integers(0, 1 + len(words) // 8))]))
        fresh = not any(_jaccard(new, old) >= SAME for old in kept)
        assert seen.admits(new) == fresh
        kept += [new] * fresh
    assert 40 < len(kept) < 260
