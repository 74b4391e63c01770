"""Records: one tidy row per measurement, one parquet file per run or survey, read without torch."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from ablate.core.manifest import read_vouched
from ablate.core.storage import Damaged, digest, whole_file

FILE = "records.parquet"

# Also the order of sorting. stage: index in regime.stages, -1 the base model before any step on the new domain.
# step: training steps on the new domain; tokens, loss_tokens: read and supervised in training so far.
# contexts: what is visible, "ar", "random", "bound" (over sequences, in blocks of block_size), "block" (over
# answers), "decode", "stale" or "" where none applies.
# grid: where blocks are counted from, "sequence" or "answer"; offset: place of the first one's begin modulo block_size,
# missing where rows differ. order, pace: of decoding, see ablate.decoding.protocol. All "" where none applies.
# protocol: the rest of how a score was decoded and its fingerprint, what a list was smoothed by, a floor; "" elsewhere.
# question: number of the one question that a row is about; missing where it is about all of them.
COLUMNS = {
    "run": "str",
    "corpus": "str",
    "regime": "str",
    "seed": "int64",
    "stage": "int64",
    "objective": "str",
    "step": "int64",
    "tokens": "int64",
    "loss_tokens": "int64",
    "flops": "float64",
    "domain": "str",
    "split": "str",
    "metric": "str",
    "contexts": "str",
    "block_size": "Int64",
    "grid": "str",
    "offset": "Int64",
    "order": "str",
    "pace": "str",
    "protocol": "str",
    "question": "Int64",
    "value": "float64",
}
# Of a study: arms are compared within a condition.
STUDY = {"study": "str", "condition": "str", "arm": "str", **COLUMNS}
# Of an evaluation of finished runs; its contexts may be "sequence", which is drawn whole. question_seed: of the n
# questions or sequences asked. error: standard error of the mean over these. passes: forward passes a question.
EVALUATION = {**COLUMNS, "question_seed": "int64", "n": "int64", "error": "float64"}
EVALUATION |= {"passes": "float64", "seconds": "float64"}
ORACLE = "oracle"  # objective of its rows whose model is the exact oracle
# Of a survey, which measures a corpus before any training. rate: fixed mask rate, of samplers that have one. asked:
# tokens asked for, "all" scored ones or "answers". weight: "loss" if each asked token counts as in the loss, "token" if
# all count alike. infer: context sampler of inference that a mismatch or a cost refers to. "" where none applies.
SURVEY = {
    "corpus": "str",
    "domain": "str",
    "split": "str",
    "fingerprint": "str",
    "seed": "int64",
    "context_sampler": "str",
    "rate": "float64",
    "block_size": "Int64",
    "asked": "str",
    "weight": "str",
    "infer": "str",
    "metric": "str",
    "value": "float64",
}
NO_BLOCKS: dict[str, object] = {"block_size": None, "grid": "", "offset": None, "order": "", "pace": "", "protocol": ""}
BLOCKWISE = ("decode", "block", "bound")  # contexts of rows that have a grid
# How all scores were decoded before there were other protocols; see ablate.decoding.protocol
EARLIER = {"kind": "Protocol", "order": "confidence", "pace": "tokens:1", "grid": "answer", "remask": 0}
EARLIER |= {"temperature": 0.0, "top_p": 1.0, "suffix": "mask"}
INFERENCE = "AR"  # the context sampler of decoding token by token from left to right
FIXED_RATE = "fixed rate"  # not a sampler that anything is trained under: the steps of one
Columns = dict[str, str]


def table(rows: Iterable[dict], columns: Columns = COLUMNS) -> pd.DataFrame:
    """Rows as a frame with these columns, dtypes and order, sorted: equal runs give equal tables.

    ValueError names the row and the columns that are missing, unknown or of the wrong type.
    """
    rows = list(rows)
    for number, row in enumerate(rows):
        _require_columns(f"row {number}", row, columns)
    return _typed(pd.DataFrame(rows, columns=list(columns)), "table", columns)


def write(frame: pd.DataFrame, path: str | Path, columns: Columns = COLUMNS) -> None:
    """Parquet file at `path`, complete or not there at all: a reader never meets half of one."""
    path = Path(path)
    fill = writer(frame, columns, str(path))
    with whole_file(path) as temporary:
        fill(temporary)


def write_rows(rows: Iterable[dict], path: Path) -> None:
    """The table of a run's rows as a parquet file, complete or not there at all. Raises ValueError as `table` does."""
    frame = table(rows)
    with whole_file(path) as temporary:
        _store(frame, temporary)


def writer(frame: pd.DataFrame, columns: Columns = COLUMNS, where: str = "table") -> Callable[[Path], None]:
    """What writes the frame as parquet to a path. ValueError names the columns that are missing, unknown or wrong."""
    _require_columns(where, frame.columns, columns)
    typed = _typed(frame, where, columns)
    return lambda path: _store(typed, path)


def _store(typed: pd.DataFrame, path: Path) -> None:
    typed.to_parquet(path, engine="pyarrow", compression="zstd", index=False)


def read(path: str | Path, columns: Columns = COLUMNS) -> pd.DataFrame:
    """Table kept in a parquet file, or in a run folder that holds `records.parquet`.

    ValueError says where, what was wanted, what came and what to type; Damaged, which is one, of a file that is
    not what the manifest beside it vouches for.
    """
    import pyarrow

    path = Path(path)
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        came = f"a folder without {FILE}" if path.is_dir() else "nothing there"
        raise ValueError(
            f"{path}: wanted a run folder that holds {FILE}, or that file; came: {came}; "
            f"name a folder that a run has written, for example runs/NAME"
        )
    try:
        frame = pd.read_parquet(io.BytesIO(read_vouched(file)), engine="pyarrow")
    except Damaged:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise ValueError(
            f"{file}: wanted a parquet file; came one that cannot be read as such ({_first_line(error)}); "
            f"name the {FILE} of a run, or run it again"
        ) from error
    frame = with_protocols(frame, columns)
    missing = [name for name in columns if name not in frame]
    if missing:
        raise ValueError(
            f"{file}: wanted the columns {', '.join(columns)}; came without {', '.join(missing)}; "
            f"name the {FILE} of a run, or run it again"
        )
    return _typed(frame, str(file), columns)


def with_protocols(frame: pd.DataFrame, columns: Columns = COLUMNS) -> pd.DataFrame:
    """Rows from before protocols were recorded: confidence, one token a pass, blocks counted from the answer."""
    new = [name for name in NO_BLOCKS if name in columns and name not in frame]
    if "contexts" not in frame or "block_size" not in frame or not new or "protocol" in new:
        return frame
    frame = frame.assign(**{name: NO_BLOCKS[name] for name in new})
    frame.loc[frame["contexts"].isin(BLOCKWISE) & frame["block_size"].notna(), "grid"] = EARLIER["grid"]
    decoded = frame["contexts"] == "decode"
    for name in ("order", "pace"):
        frame.loc[decoded, name] = EARLIER[name]
    for size in frame.loc[decoded, "block_size"].dropna().unique():
        fingerprint = digest({**EARLIER, "block_size": int(size)})
        frame.loc[decoded & (frame["block_size"] == size), "protocol"] = f"greedy; suffix mask; {fingerprint[:8]}"
    return frame


def gather(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Table of several runs. ValueError names every path that cannot be read and every run that came twice."""
    frames: dict[Path, pd.DataFrame] = {}
    errors = []
    for path in dict.fromkeys(Path(path) for path in paths):
        try:
            frames[path] = read(path)
        except ValueError as error:
            errors.append(str(error))
    homes: dict[str, list[str]] = {}
    for path, frame in frames.items():
        for run in frame["run"].unique():
            homes.setdefault(run, []).append(str(path))
    errors += [
        f"run {run!r}: wanted once; came from {', '.join(found)}; name one of them"
        for run, found in homes.items()
        if len(found) > 1
    ]
    if errors or not frames:
        raise ValueError("\n".join(errors) or "no run named: wanted one or more run folders, for example runs/NAME")
    return _typed(pd.concat(frames.values(), ignore_index=True), "gather", COLUMNS)


def under(rows: pd.DataFrame, grid: str = "answer", order: str = "confidence", pace: str = "tokens:1") -> pd.DataFrame:
    """Rows measured on this grid, in this order and at this pace; those of which it means nothing stay."""
    there = pd.Series(True, index=rows.index)
    for name, wanted in {"grid": grid, "order": order, "pace": pace}.items():
        there &= rows[name].isin(["", wanted])
    return rows.loc[there]


def require_single(rows: pd.DataFrame, where: str) -> None:
    """Raises ValueError where a run has two values of one metric at one step, which must not be averaged by chance."""
    ways = ("value", "grid", "offset", "order", "pace", "protocol")
    twice = rows.loc[rows.duplicated([name for name in STUDY if name in rows and name not in ways], keep=False)]
    if len(twice):
        first = twice.iloc[0]
        alike = twice.loc[(twice["run"] == first["run"]) & (twice["step"] == first["step"])]
        ways = alike[["grid", "order", "pace"]].drop_duplicates().to_numpy().tolist()
        came = "; ".join(sorted(" ".join(way).strip() for way in ways))
        raise ValueError(
            f"{where}: run {first['run']}, step {first['step']}: wanted one value of {first['metric']}, got "
            f"{len(alike)} ({came}); name one grid, order and pace"
        )


def _require_columns(where: str, names: Iterable[str], columns: Columns) -> None:
    names = list(names)
    if len(names) == len(columns) and columns.keys() == set(names):
        return
    missing = [name for name in columns if name not in names]
    unknown = [str(name) for name in names if name not in columns]
    if missing or unknown:
        faults = [f"missing {', '.join(missing)}"] * bool(missing) + [f"unknown {', '.join(unknown)}"] * bool(unknown)
        raise ValueError(f"{where}: wanted exactly the columns {', '.join(columns)}; came {'; '.join(faults)}")


def _typed(frame: pd.DataFrame, where: str, columns: Columns) -> pd.DataFrame:
    """Frame with the dtypes of the columns, sorted by all of them; ValueError where a value would have to change."""
    typed_columns = {}
    for name, dtype in columns.items():
        values = frame[name]
        if dtype == "str" and (not isinstance(values.dtype, pd.StringDtype) or values.hasnans):
            wrong = [value for value in values if not isinstance(value, str)]
            if wrong:
                raise ValueError(f"{where}: column {name} wants text; came {wrong[0]}")
        try:
            # By way of Int64, because a plain cast to int64 would cut 1.5 down to 1.
            typed = values.astype("Int64") if dtype == "int64" else values
            typed_columns[name] = typed.astype(dtype)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{where}: column {name} wants {dtype}; came other values ({_first_line(error)})"
            ) from error
    return pd.DataFrame(typed_columns).sort_values(list(columns), kind="stable", ignore_index=True)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
