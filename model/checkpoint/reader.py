"""A checkpoint folder's safetensors files: their headers at once, their tensors one by one.

Format: eight bytes with the header's length, the header (JSON: dtype, shape and byte range of each
tensor), then the data without gaps (https://huggingface.co/docs/safetensors). Files are read, not
memory-mapped: what the process holds of a checkpoint is the one tensor it asked for.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "I64": torch.int64,
    "I32": torch.int32,
    "I8": torch.int8,
    "U8": torch.uint8,
}
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_FULL_HASH_BELOW_BYTES = 1 << 30
_SAMPLE_BYTES, _SAMPLE_EVERY_BYTES = 1 << 16, 1 << 26


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a tensor lies and what it is; `begin` and `end` are bytes from the file's start."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class CheckpointReader:
    """Tensors of a checkpoint folder by name.

    Attributes:
        stored: what the headers say of each tensor.
        shards: the files, in name order.

    Raises:
        ValueError: the folder, a shard or the index is missing, or a file is truncated or no
            safetensors file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise ValueError(f"checkpoint {folder} is not a folder")
        self.shards = _shards(folder)
        self.stored: dict[str, Stored] = {}
        for path in self.shards:
            for name, stored in _read_header(path).items():
                if name in self.stored:
                    first = self.stored[name].path.name
                    raise ValueError(f"tensor {name} is in both {first} and {path.name}")
                self.stored[name] = stored
        if not self.stored:
            raise ValueError(f"checkpoint {folder} holds no *.safetensors file with tensors")
        self._open: tuple[Path, BinaryIO] | None = None

    @property
    def names(self) -> set[str]:
        return set(self.stored)

    def dtype(self, name: str) -> torch.dtype:
        """The type a tensor is stored in.

        Raises:
            ValueError: torch has none like it.
        """
        stored = self.stored[name]
        if stored.dtype not in _DTYPES:
            raise ValueError(f"tensor {name} in {stored.path} is {stored.dtype}, unknown here")
        return _DTYPES[stored.dtype]

    def read(self, name: str) -> Tensor:
        """The tensor called `name`, on the host and in its stored type.

        Raises:
            ValueError: its type is unknown here or the file has become shorter.
        """
        stored = self.stored[name]
        raw = torch.empty(stored.end - stored.begin, dtype=torch.uint8)
        file = self._file(stored.path)
        file.seek(stored.begin)
        if raw.numel() and file.readinto(raw.numpy()) != raw.numel():  # type: ignore[attr-defined]
            raise ValueError(f"{stored.path} ends within tensor {name}")
        return raw.view(self.dtype(name)).view(stored.shape)

    def in_file_order(self, names: list[str]) -> list[str]:
        """`names` in the order of files and of places in them, so that a disk reads ahead."""
        return sorted(names, key=lambda n: (self.stored[n].path, self.stored[n].begin))

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def fingerprint(self) -> str:
        """A name for the weights: equal files have equal ones.

        Below 1 GiB in all the sha256 of every byte, in the order of file names. Beyond, "sampled:"
        and the sha256 of every file's size and header and of 64 KiB from each 64 MiB of it: other
        weights give another one, but a change between two samples goes unseen.
        """
        sizes = {path: path.stat().st_size for path in self.shards}
        digest = hashlib.sha256()
        is_small = sum(sizes.values()) < _FULL_HASH_BELOW_BYTES
        for path, size in sizes.items():
            with path.open("rb") as file:
                if is_small:
                    for chunk in iter(lambda: file.read(1 << 22), b""):
                        digest.update(chunk)
                    continue
                length = file.read(8)
                digest.update(size.to_bytes(8, "little") + length)
                digest.update(file.read(int.from_bytes(length, "little")))
                for begin in range(0, size, _SAMPLE_EVERY_BYTES):
                    file.seek(begin)
                    digest.update(file.read(_SAMPLE_BYTES))
        return digest.hexdigest() if is_small else f"sampled:{digest.hexdigest()}"

    def _file(self, path: Path) -> BinaryIO:
        if self._open is None or self._open[0] != path:
            self.close()
            self._open = path, path.open("rb")
        return self._open[1]


def _shards(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return sorted(folder.glob("*.safetensors"))
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (json.JSONDecodeError, KeyError, AttributeError) as error:
        raise ValueError(f"{index} is no safetensors index: {error}") from error
    for name in names:
        if not (folder / name).exists():
            raise ValueError(f"shard {name} listed in {index} is missing")
    return [folder / name for name in names]


def _read_header(path: Path) -> dict[str, Stored]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
            raise ValueError(f"{path} is truncated or no safetensors file: no header")
        text = file.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        found = {name: _stored(path, 8 + length, entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is truncated or no safetensors file: {error}") from error
    end = 8 + length
    for stored in sorted(found.values(), key=lambda s: (s.begin, s.end)):
        if stored.begin != end:
            raise ValueError(f"{path} is no safetensors file: its tensors overlap or leave gaps")
        end = stored.end
    if end != size:
        raise ValueError(
            f"{path} is truncated or no safetensors file: its header tells of {end} bytes, "
            f"it has {size}"
        )
    return found


def _stored(path: Path, data_begin: int, entry: dict[str, Any]) -> Stored:
    begin, end = (data_begin + int(offset) for offset in entry["data_offsets"])
    dtype, shape = str(entry["dtype"]), tuple(int(n) for n in entry["shape"])
    if dtype in _DTYPES and end - begin != math.prod(shape) * _DTYPES[dtype].itemsize:
        raise ValueError(f"{end - begin} bytes for {dtype} {list(shape)}")
    return Stored(path, dtype, shape, begin, end)
