"""Plain values between two processes of which one is not trusted: frames of JSON, which run no code when they are read.

A frame is its length, four bytes, and a text in JSON. Plain values are those of `KINDS` and what they hold; anything
else stays where it is, and the other process knows it by a number.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

OBJECT = "object"
KINDS: dict[str, type] = {kind.__name__: kind for kind in (list, tuple, set, frozenset)}
PIECE = 2**16  # bytes read at once


def send(descriptor: int, content: Any) -> None:
    """Writes one frame."""
    raw = json.dumps(content).encode()
    rest = memoryview(len(raw).to_bytes(4, "big") + raw)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def receive(descriptor: int, most: int) -> Any:
    """Reads one frame. Raises EOFError where the other end is closed, ValueError for one of more than `most` bytes and
    for what is no JSON."""
    size = int.from_bytes(_exactly(descriptor, 4), "big")
    if size > most:
        raise ValueError(f"an answer of {size:,} bytes, wanted {most:,} at most")
    return json.loads(_exactly(descriptor, size))


def _exactly(descriptor: int, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        piece = os.read(descriptor, min(PIECE, size - len(found)))
        if not piece:
            raise EOFError
        found += piece
    return bytes(found)


def encoded(value: Any, number_of: Callable[[Any], int]) -> Any:
    """A value as JSON has it. number_of: of an object that is no plain value. What inherits from a plain kind is sent
    as that kind."""
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    for name, kind in KINDS.items():
        if isinstance(value, kind):
            return [name, [encoded(one, number_of) for one in value]]
    if isinstance(value, dict):
        return ["dict", [[encoded(one, number_of) for one in pair] for pair in value.items()]]
    if isinstance(value, bytes):
        return ["bytes", value.decode("latin-1")]
    if isinstance(value, complex):
        return ["complex", [value.real, value.imag]]
    return [OBJECT, number_of(value)]


def decoded(content: Any, object_of: Callable[[int], Any]) -> Any:
    """The value again. Raises ValueError, TypeError or RecursionError for what `encoded` does not make."""
    if not isinstance(content, list):
        return content
    name, parts = content
    if name in KINDS:
        return KINDS[name](decoded(one, object_of) for one in parts)
    if name == "dict":
        return {decoded(key, object_of): decoded(value, object_of) for key, value in parts}
    if name == "bytes":
        return parts.encode("latin-1")
    if name == "complex":
        return complex(*parts)
    if name == OBJECT:
        return object_of(parts)
    raise ValueError(f"a value of the kind {name!r:.40}")
