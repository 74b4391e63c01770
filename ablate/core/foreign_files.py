"""Files that strangers made, read within bounds: of what kind they are, how large, how deep, and which ids they name.

Whatever stands in them, what comes back is a value of the type that is promised, or an OSError or a ValueError whose
text is a reason of one line. The caller says which file it was and what to type.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

SETTINGS = 2**24  # bytes of a config.json, an index or a state.json; the largest known has less than one megabyte
TOKENIZER = 2**26  # bytes of a tokenizer.json; the largest known have some 35 megabytes
DEPTH = 64  # lists and objects within each other
PARTS = 2**21  # lists and objects in all: an empty one takes three bytes of a file and some seventy of memory
IDS = 2**22  # token ids; the largest known vocabulary has a quarter of that
KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def require_plain(path: Path) -> os.stat_result:
    """What the system says of a file, links followed. Raises ValueError for what is none, whose reading might never
    end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{KINDS.get(stat.S_IFMT(found.st_mode), 'something else')}, wanted a file")
    return found


def require_inside(folder: Path, name: object) -> None:
    """Raises ValueError for the name of what is no plain file in this very folder."""
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"{str(name)[:80]!r}, wanted the name of a file beside it")
    require_plain(folder / name)


def require_size(path: Path, most: int) -> os.stat_result:
    """What the system says of a file of at most so many bytes. Raises ValueError for others, and for what is none."""
    found = require_plain(path)
    if found.st_size > most:
        raise ValueError(f"it has {found.st_size:,} bytes, wanted {most:,} at most")
    return found


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none, or something else."""
    try:
        return require_plain(path).st_size
    except (OSError, ValueError):
        return 0


def read_bytes(path: Path, most: int) -> bytes:
    """The bytes of a file. Raises ValueError for more than `most`, and for what is no file."""
    require_size(path, most)
    with path.open("rb") as file:
        raw = file.read(most + 1)
    if len(raw) > most:  # it has grown meanwhile
        raise ValueError(f"it has more than {most:,} bytes")
    return raw


def read_json(path: Path, most: int = SETTINGS) -> Any:
    """The JSON of a file of at most so many bytes. Raises ValueError as `read_bytes` and `parse_json` do."""
    return parse_json(read_bytes(path, most))


def parse_json(raw: bytes) -> Any:
    """JSON in UTF-8 as plain values, strings all of characters that can be written. Raises ValueError for others, for
    more than DEPTH levels and for more than PARTS parts."""
    if raw.count(b"[") + raw.count(b"{") > PARTS:
        raise ValueError(f"it has more than {PARTS:,} lists and objects")
    try:
        content = json.loads(raw.decode("utf-8"))
    except RecursionError:
        raise ValueError(f"it is no JSON of at most {DEPTH} levels") from None
    except ValueError:
        raise ValueError("it is no JSON") from None
    level = [content]
    for _ in range(DEPTH):
        inner = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list)]
        level = [one for part in inner for one in part if isinstance(one, dict | list)]
        if not level:
            break
    else:
        raise ValueError(f"it is no JSON of at most {DEPTH} levels")
    if b"\\ud" in raw or b"\\uD" in raw:  # half of a surrogate pair is a string that no file can hold
        try:
            json.dumps(content, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it has half of a surrogate pair") from None
    return content


def printable(text: str, keep: str = "") -> str:
    """The text with signs for what would move a terminal's cursor, but for what is kept: names of files are foreign
    too, and so is what a model writes."""
    return "".join(sign if sign.isprintable() or sign in keep else ascii(sign)[1:-1] for sign in text)


def tokens_of(parts: Any) -> tuple[dict[str, int], set[int]]:
    """Of a parsed tokenizer.json the ids by token, added ones included, and the ids of special tokens.

    Raises ValueError where it has no tokens, or anything else in their place.
    """
    model = parts.get("model") if isinstance(parts, dict) else None
    entries = model.get("vocab") if isinstance(model, dict) else None
    added = (parts.get("added_tokens") or []) if isinstance(parts, dict) else []
    if isinstance(entries, list):
        listed = [(entry[0] if isinstance(entry, list) and entry else None, i) for i, entry in enumerate(entries)]
    elif isinstance(entries, dict):
        listed = list(entries.items())
    else:
        raise ValueError("it has no vocabulary")
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise ValueError("its added_tokens are no list of objects")
    listed += [(token.get("content"), token.get("id")) for token in added]
    names: dict[str, int] = {}
    for token, id in listed:
        if not isinstance(token, str):
            raise ValueError(f"its token {token!r:.40} is no string")
        require_id(id, f"its token {token!r:.40}")
        names[token] = id
    if not names:
        raise ValueError("it has no tokens")
    if not all(isinstance(token.get("special"), bool) for token in added):
        raise ValueError("an added token does not say whether it is special")
    return names, {token["id"] for token in added if token["special"]}


def require_id(value: Any, what: str) -> None:
    """Raises ValueError, beginning with `what`, unless the value is a token's id."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < IDS:
        raise ValueError(f"{what}: wanted an id from 0 to {IDS - 1}, got {value!r:.40}")
