"""Tables of tiles as files: a JSON file a device, read once, never tuned at import.

`model/kernels/tuned/<device>.json` holds what `canvasbench tune` found on that device; a device
without a file gets `default.json`.
"""

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch

from model.kernels.tiles import (
    NAMES,
    DenseChoice,
    DenseTiles,
    ExpertChoice,
    GatedTiles,
    HeadTiles,
    Tiles,
    TileTable,
)

_FOLDER = Path(__file__).parent / "tuned"
_T = TypeVar("_T")


def table_for(device: torch.device) -> TileTable:
    """The table of a device; the default one where it has none, or is no GPU."""
    return _named(torch.cuda.get_device_name(device) if device.type == "cuda" else None)


@functools.cache
def _named(name: str | None) -> TileTable:
    path = file_of(name) if name is not None else _FOLDER / "default.json"
    return read_table(path if path.exists() else _FOLDER / "default.json")


def file_of(device: str) -> Path:
    """Where the table of a device of this name belongs."""
    return _FOLDER / f"{re.sub('[^a-z0-9]+', '-', device.lower()).strip('-')}.json"


def shipped() -> list[Path]:
    """All files of tables."""
    return sorted(_FOLDER.glob("*.json"))


def read_table(path: Path) -> TileTable:
    """A table from its file.

    Raises:
        ValueError: the file holds no table; it names the file and what is wrong.
    """
    try:
        stored = json.loads(path.read_text())
        experts = {
            name: tuple(
                ExpertChoice(
                    Tiles(**c["gate_up"]),
                    Tiles(**c["down"]),
                    c.get("up_to_tokens"),
                    c.get("one_launch", False),
                    c.get("soon_mib", 0),
                    c.get("soon_qkv", False),
                )
                for c in choices
            )
            for name, choices in stored["experts"].items()
        }
        dense = _read_choices(stored["dense"], DenseTiles)
        qkv = _read_choices(stored["qkv"], HeadTiles)
        gated = {name: _read_choices(c, GatedTiles) for name, c in stored["gated"].items()}
        table = TileTable(stored["device"], stored["source"], experts, dense, qkv, gated)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no table of tiles: {error}") from error
    by_dtype: dict[str, Mapping[str, Sequence[Any]]] = {"experts": experts, "gated": gated}
    for name, found in by_dtype.items():
        if set(found) != set(NAMES.values()):
            raise ValueError(f"{path} has {name} {sorted(found)}; must be bf16 and fp8")
    for choice in (choice for choices in experts.values() for choice in choices):
        if choice.gate_up.quantise and choice.gate_up.persistent:
            raise ValueError(f"{path}: persistent gate_up programs cannot quantise their rows")
    lists: list[Sequence[Any]] = [dense, qkv, *experts.values(), *gated.values()]
    for choices in lists:
        if not choices or any(limit is not None for limit in _limits(choices[-1])):
            raise ValueError(f"{path}: the last choice of a list must have no limit")
    return table


def _read_choices(
    stored: Sequence[Mapping[str, Any]], kind: Callable[..., _T]
) -> tuple[DenseChoice[_T], ...]:
    return tuple(
        DenseChoice(
            None if c["tiles"] is None else kind(**c["tiles"]),
            c.get("up_to_tokens"),
            c.get("up_to_channels"),
            tuple(c["shape"]) if "shape" in c else None,
        )
        for c in stored
    )


def write_table(table: TileTable, path: Path) -> None:
    """Writes a table so that a change of one tile is a change of one line."""
    lines = [f' "device": {json.dumps(table.device)},', f' "source": {json.dumps(table.source)},']
    by_dtype = [_by_dtype("experts", table.experts), _by_dtype("gated", table.gated)]
    lists = [_list("dense", table.dense), _list("qkv", table.qkv)]
    text = ",\n".join("\n".join(part) for part in (by_dtype[0], *lists, by_dtype[1]))
    path.write_text("\n".join(["{", *lines, text, "}", ""]))


def _by_dtype(name: str, choices: Mapping[str, Sequence[Any]]) -> list[str]:
    lists = [_list(dtype, each, "  ") for dtype, each in sorted(choices.items())]
    inside = ",\n".join("\n".join(lines) for lines in lists)
    return [f' "{name}": {{', inside, " }"]


def _list(name: str, choices: Sequence[Any], indent: str = " ") -> list[str]:
    inside = ",\n".join(f"{indent} {_line(choice)}" for choice in choices)
    return [f'{indent}"{name}": [', inside, f"{indent}]"]


def _line(choice: ExpertChoice | DenseChoice[Any]) -> str:
    """Limits first; what equals a default is left out."""
    names = [name for name in asdict(choice) if name not in ("gate_up", "down", "tiles")]
    plain = {name: getattr(choice, name) for name in names if getattr(choice, name)}
    for name in ("gate_up", "down", "tiles"):
        tiles = getattr(choice, name, None)
        if tiles is not None:
            defaults = asdict(type(tiles)())
            plain[name] = {k: v for k, v in asdict(tiles).items() if v != defaults[k]}
        elif name == "tiles" and isinstance(choice, DenseChoice):
            plain[name] = None
    return json.dumps(plain)


def _limits(choice: ExpertChoice | DenseChoice[Any]) -> list[object]:
    names = ("up_to_tokens", "up_to_channels", "shape")
    return [getattr(choice, name, None) for name in names]
