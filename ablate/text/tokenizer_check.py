"""Whether a stranger's tokenizer can be used at all: it is tried in a process of its own, within bounds.

A tokenizer.json may hold regular expressions that backtrack for ever, replacements that multiply a text and settings
at which the library panics. What happens on a text cannot be told from the file, so it is tried on texts made to
provoke that, and `within` bounds the time of those that come later.
"""

from __future__ import annotations

import functools
import json
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from ablate.core.child_processes import python
from ablate.core.foreign_files import tokens_of

Result = TypeVar("Result")

SECONDS = 60  # for loading and for all texts that are tried; the largest known take some five
MEMORY = 2**32  # bytes of addresses of the process
RUN = 2000  # characters of the same kind in a row
GROWTH = 32  # characters, and tokens, that a byte of a text may become
SAMPLES = "a1 \n\t.-_é数▁🙂\u0301"


@functools.lru_cache(maxsize=8)
def fault_of(content: str) -> str:
    """Why a tokenizer.json cannot be used, in one line; empty where it can."""
    command, surroundings = python("from ablate.text.tokenizer_check import answer; answer()")
    try:
        done = subprocess.run(
            command,
            input=content.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**surroundings, "TOKENIZERS_PARALLELISM": "false"},
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it does not come to an end with a text of {RUN} characters within {SECONDS} seconds"
    if done.returncode:
        return f"the process that tried it ended with status {done.returncode}, for want of memory or by a fault"
    return json.loads(done.stdout)


def answer() -> None:
    """What that process does: reads the file from its input, and prints the fault as JSON."""
    with suppress(ValueError, OSError):  # not on every system
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    content = sys.stdin.buffer.read().decode()
    try:
        fault = _fault(content)
    except BaseException as error:  # the library raises plain Exceptions, and panics beside them
        fault = (str(error).splitlines() or [type(error).__name__])[0][:200]
    print(json.dumps(fault))


def _fault(content: str) -> str:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(content)
    tokenizer.encode_special_tokens = True
    parts = json.loads(content)
    names, own = tokens_of(parts)[0], tokenizer.get_vocab(with_added_tokens=True)
    for name, id in names.items():
        if own.get(name) != id:
            return f"its token {name!r:.40} has the id {id}, but the library reads it as {own.get(name)}"
    for text in _texts(parts):
        size = len(text.encode())
        normal = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
        ids = tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
        if max(len(normal), len(ids)) > GROWTH * (size + 1):
            return f"it makes {max(len(normal), len(ids)):,} characters or tokens of {size:,} bytes"
    return ""


def _texts(parts: dict[str, Any]) -> Iterator[str]:
    """Runs of the characters that its rules speak of, and of one of each common kind, each before another one."""
    rules = json.dumps([parts.get("normalizer"), parts.get("pre_tokenizer")], ensure_ascii=False)
    common = [*SAMPLES, *sorted(set(rules) - set(SAMPLES))[:100]]
    yield ""
    yield "".join(common) * 10
    for one in common:
        yield one  # growth shows here, whatever it is
        yield one * RUN + "\x01"


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """What the work returns. Raises TimeoutError where it takes longer, RuntimeError where a library panics, else what
    the work raises.

    The work goes on in a thread that ends with the process: it cannot be stopped.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # handed on
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if results:
        return results[0]
    if not errors:
        raise TimeoutError(f"it does not come to an end within {seconds:.0f} seconds")
    raise errors[0] if isinstance(errors[0], Exception) else RuntimeError(str(errors[0]))
