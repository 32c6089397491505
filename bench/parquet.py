"""Tables on disk: written beside their place and moved there, read back with checks.

Older schema versions are migrated on reading; a future one is refused.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.tables import COLUMNS, SCHEMA_VERSION, check

_NULLABLE = {
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.string(): pd.StringDtype(),
    pa.large_string(): pd.StringDtype(),
}


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Writes a parquet file whole or not at all."""
    part = path.with_suffix(".parquet.part")
    table.to_parquet(part, index=False, write_page_checksum=True)
    move_into_place(part, path)


def write_tables(folder: Path, pieces: Iterable[Mapping[str, pd.DataFrame]]) -> list[str]:
    """Writes a file a table, with the rows of all pieces, and returns the tables' names."""
    files: dict[str, pq.ParquetWriter] = {}
    with ExitStack() as stack:
        for piece in pieces:
            for name, rows in piece.items():
                found = pa.Table.from_pandas(rows, preserve_index=False)
                if name not in files:
                    file = pq.ParquetWriter(
                        folder / f"{name}.parquet", found.schema, write_page_checksum=True
                    )
                    files[name] = stack.enter_context(file)
                files[name].write_table(found)
    return list(files)


def move_into_place(part: Path, path: Path) -> None:
    """Puts a file in its place once its content is on the disk."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


def read_table(name: str, path: Path) -> pd.DataFrame:
    """A checked table in today's schema.

    Raises:
        ValueError: a truncated or foreign file, or one of a future schema version; it is named.
    """
    try:
        return check(name, read_parts(name, [path]))
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from error


def read_parts(name: str, paths: Sequence[Path]) -> pd.DataFrame:
    """Several files of a table as one, each migrated; to be checked once, not part by part."""
    return pd.concat([migrate(name, _read(path)) for path in paths], ignore_index=True)


def _read(path: Path) -> pd.DataFrame:
    try:
        # The schema says what the columns are; what the file says of pandas is not needed.
        stored = pq.read_table(path, page_checksum_verification=True).replace_schema_metadata()
        found = stored.to_pandas(types_mapper=_NULLABLE.get)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is truncated or no parquet file: {first}") from error
    versions = found["schema_version"].unique() if "schema_version" in found else [None]
    for version in versions:
        check_version(path, version)
    return found


def check_version(path: Path, version: Any) -> None:
    """Refuses what was written by something else or by a later canvasbench.

    Raises:
        ValueError: no version, no integer, or a future one.
    """
    if version is None:
        raise ValueError(f"{path} has no schema_version; it was not written by canvasbench")
    if isinstance(version, bool) or not isinstance(version, int | np.integer):
        raise ValueError(f"{path} has schema version {version!r}; it must be an integer")
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"{path} has schema version {version}; this canvasbench reads up to {SCHEMA_VERSION}"
        )


def migrate(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """A table of an older version, one version after the other, in today's schema."""
    for version in sorted(_MIGRATIONS):
        older = table["schema_version"] <= version
        if len(table) and older.all():
            table = _MIGRATIONS[version](name, table).assign(schema_version=version + 1)
    return table


def _from_1_to_2(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Version 2 tells the machine of every row and more of each point's circumstances."""
    return _with_new_columns(name, table.assign(host="unknown"))


def _with_new_columns(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Columns the table's version did not know, as unknown.

    Version 3 tells a GPU's memory, version 4 whether autoregressive scores were finite, version 5
    reasoning apart from the answer, whether answers have the form asked for, the chat template,
    and a step's floors, version 6 loads sent to servers; there a canvas's steps, a request's
    canvases and its prefill may be unknown. Version 7 tells commits fused with a step, and options
    of the vocabulary's products, version 8 the most memory that each process had held.
    """
    added = [c for c in COLUMNS[name] if c not in table.columns and COLUMNS[name][c].endswith("?")]
    return table.assign(**dict.fromkeys(added))


_MIGRATIONS: dict[int, Callable[[str, pd.DataFrame], pd.DataFrame]] = {
    1: _from_1_to_2,
    2: _with_new_columns,
    3: _with_new_columns,
    4: _with_new_columns,
    5: _with_new_columns,
    6: _with_new_columns,
    7: _with_new_columns,
}
