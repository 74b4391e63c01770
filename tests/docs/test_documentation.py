"""The documentation: it is short, its links lead somewhere, its examples run and say what is written."""

import doctest
import importlib.util
import os
import re
import subprocess
import sys

import pytest

from tests import ROOT

README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
EVERY = [README, *PAGES]
MOST_WORDS = 1300  # of the README, code and tables included, as `wc -w` counts
MOST_IN_A_SENTENCE = 22  # words in the mean of a page
INSTALL = "python -m pip install -e . && python experiments/run.py regime=ar_to_bidllm"
TEST = 'python -m pip install -e ".[test]" && python -m pytest -n 2'
PACKAGES = ("ablate", "synthetic_data", "experiments", "figures", "tests", "docs", "results")
OPEN = re.compile(r"\*\*Open\*\* `([^`]+)` \*\*and look for\*\* ((?:`[^`]+`(?:, )?)+)\.")


def named(path):
    return path.relative_to(ROOT).as_posix()


def fenced(text, language):
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.S | re.M)


def prose(text):
    """The sentences of a page: without code blocks, tables, headings and pictures. Inline code counts as one word; the
    end of a paragraph or of a list's item ends a sentence; a colon or semicolon does not."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"``[^`]*``|`[^`]*`", "code", text)
    paragraphs, now = [], []
    for line in text.splitlines():
        dropped = line.startswith(("|", "#", ":::")) or (line.startswith("    ") and not now)
        item = re.match(r"\s*(?:[*-]|\d+\.)\s+", line)
        if dropped or not line.strip() or item:
            paragraphs.append(" ".join(now))
            now = []
        if not dropped and line.strip():
            now.append(line[item.end() :] if item else line.strip())
    paragraphs.append(" ".join(now))
    for paragraph in paragraphs:
        for sentence in re.split(r"(?<=[.!?])[\"')\]*_]*\s+(?=[\"'(\[*_]*[A-Z0-9]|code)", paragraph):
            words = [word for word in sentence.split() if re.search(r"\w", word)]
            if words:
                yield words


def mean_words(text):
    lengths = [len(words) for words in prose(text)]
    return sum(lengths) / max(1, len(lengths))


def inline_code(text):
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M))


def test_prose_counts_what_a_reader_reads():
    text = "# Title\n\nOne two. Three `a b c` four: five; six.\n\n| a | b |\n\n* seven\n* eight 0.5 nine\n\n"
    text += "```bash\nten\n```\n"
    assert [len(words) for words in prose(text)] == [2, 5, 1, 3]


def test_the_readme_is_short_and_has_the_two_commands():
    text = README.read_text(encoding="utf-8")
    assert len(text.split()) <= MOST_WORDS
    lines = [line for block in fenced(text, "bash") for line in block.splitlines()]
    assert lines.count(INSTALL) == lines.count(TEST) == 1


@pytest.mark.parametrize("path", EVERY, ids=named)
def test_sentences_are_short(path):
    assert mean_words(path.read_text(encoding="utf-8")) <= MOST_IN_A_SENTENCE


@pytest.mark.parametrize("path", EVERY, ids=named)
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    for link in links:
        place = link.partition("#")[0]
        if place and "://" not in place:
            assert (path.parent / place).exists(), link


@pytest.mark.parametrize("path", EVERY, ids=named)
def test_files_and_modules_that_are_named_exist(path):
    text = path.read_text(encoding="utf-8")
    spans = [*inline_code(text), *" ".join(fenced(text, "bash")).split()]
    for span in spans:
        for place in re.findall(rf"(?<![\w/.-])(?:{'|'.join(PACKAGES)})/[\w./-]*", span):
            placeholder = re.search(rf"{re.escape(place)}[<*]", span) or re.search(r"/[A-Z]{4,}(/|$)", place)
            assert placeholder or (ROOT / place).exists(), f"{path.name}: {place}"
        if re.fullmatch(r"(?:ablate|synthetic_data|experiments|figures)(?:\.\w+)+", span):
            assert found(span), f"{path.name}: {span}"
    for command in re.findall(r"`ablate (\w+)[ `]", text):
        assert (ROOT / "experiments" / f"{command}.py").exists(), f"{path.name}: ablate {command}"


def found(dotted):
    """Is there such a module, or a module that has such a name at its top?"""
    place = ROOT / dotted.replace(".", "/")
    if place.is_dir() or place.with_suffix(".py").exists():
        return True
    module, name = place.parent.with_suffix(".py"), place.name
    return module.exists() and re.search(rf"^(?:class|def) {name}\b|^{name}\b", module.read_text(), re.M) is not None


def test_the_map_of_the_readme_names_files_of_its_packages():
    rows = re.findall(r"^\| `(\w+/(?:\w+/)*)` \|(.*)\|$", README.read_text(encoding="utf-8"), re.M)
    packages = {place for place, _ in rows}
    assert packages >= {f"ablate/{path.parent.name}/" for path in (ROOT / "ablate").glob("*/__init__.py")}
    for place, row in rows:
        assert (ROOT / place).is_dir(), place
        for name in re.findall(r"`([\w/]+(?:\.py|/))`", row):
            assert (ROOT / place / name).exists(), f"{place}{name}"


def changes():
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    return re.split(r"^## ", text, flags=re.M)[1:]


def test_eleven_changes_are_walked_through():
    assert [change.split(".")[0] for change in changes()] == [str(i) for i in range(1, 12)]


@pytest.mark.parametrize("change", changes(), ids=lambda change: change.splitlines()[0])
def test_a_change_names_one_file_and_what_to_look_for(change):
    (opened,) = OPEN.findall(change)
    content = (ROOT / opened[0]).read_text(encoding="utf-8")
    for symbol in re.findall(r"`([^`]+)`", opened[1]):
        assert symbol in content, f"{opened[0]}: {symbol}"


@pytest.mark.parametrize("path", [p for p in PAGES if ">>>" in p.read_text(encoding="utf-8")], ids=named)
def test_examples_say_what_is_written(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    failed, tried = doctest.testfile(str(path), module_relative=False)
    assert tried > 0
    assert failed == 0


@pytest.mark.parametrize("name", ["tutorial", "worlds"])
def test_python_of_a_page_runs(name, monkeypatch):
    """Blocks without a prompt; those of a page share their names."""
    monkeypatch.chdir(ROOT)
    names = {}
    blocks = fenced((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8"), "python")
    blocks = [block for block in blocks if ">>>" not in block]
    assert blocks
    for block in blocks:
        exec(compile(block, f"{name}.md", "exec"), names)


@pytest.mark.slow
def test_shell_of_the_tutorial_runs(tmp_path):
    """Its commands on runs of budget=smoke, as they stand there, in an empty folder."""
    blocks = fenced((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"), "bash")
    blocks = [block for block in blocks if "budget=smoke" in block or "compare.py" in block]
    assert len(blocks) == 3
    commands = "\n".join(blocks).replace("python experiments/", f"{sys.executable} {ROOT}/experiments/")
    env = {**os.environ, "ABLATE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        ["bash", "-euc", commands], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "second" / "records.parquet").exists()
    assert (tmp_path / "runs" / "compared" / "compare.png").exists()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs the extra `docs`")
def test_the_site_builds_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
