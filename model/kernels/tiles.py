"""Tiles of the product kernels as data: a JSON file a device, read once, never tuned at import.

`model/kernels/tuned/<device>.json` holds what `canvasbench tune` found on that device; a device
without a file gets `default.json`. A list is read from its start: the first entry whose limits are
not exceeded is taken, and its last has none.
"""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

FP8 = torch.float8_e4m3fn
_FOLDER = Path(__file__).parent / "tuned"
_NAMES = {FP8: "fp8", torch.bfloat16: "bf16"}


@dataclass(frozen=True, slots=True)
class Tiles:
    """Shape and schedule of one product kernel of the experts.

    Args:
        rows: token rows a program; gate_up and down share one sort when theirs are equal.
        out: weight rows a program (gate_up takes as many gate as up rows).
        inner: depth of a step.
        tma: weights through tensor descriptors, else through plain pointers.
        promote: fp8 only: leave the tensor core's ~14-bit accumulator after as many products
            (0: never).
        by_tile: neighbouring programs share rows and read on through one expert's weights, else
            they share channels.
        persistent: this many programs, each with many tiles, so that the next one's weights are on
            their way while one is written (0: a program a tile).
    """

    rows: int = 32
    out: int = 64
    inner: int = 128
    warps: int = 4
    stages: int = 4
    tma: bool = True
    promote: int = 0
    by_tile: bool = False
    persistent: int = 0


@dataclass(frozen=True, slots=True)
class DenseTiles:
    """Shape and schedule of a dense product.

    Args:
        rows: tokens a program.
        out: channels a program.
        inner: depth of a step.
        split: parts of the depth.
    """

    rows: int = 128
    out: int = 128
    inner: int = 128
    warps: int = 4
    stages: int = 4
    split: int = 1


@dataclass(frozen=True, slots=True)
class ExpertChoice:
    """For up to so many tokens (None: any)."""

    gate_up: Tiles
    down: Tiles
    up_to_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class DenseChoice:
    """For up to so many tokens and channels (None: any); without tiles torch's product.

    With a shape, for the matrices of these [channels, depth] alone, from half as many tokens on.
    """

    tiles: DenseTiles | None
    up_to_tokens: int | None = None
    up_to_channels: int | None = None
    shape: tuple[int, int] | None = None

    def is_for(self, tokens: int, channels: int, depth: int) -> bool:
        """Whether its shape is meant, and this size."""
        return self.shape == (channels, depth) and 2 * tokens > (self.up_to_tokens or 0)


@dataclass(frozen=True, slots=True)
class TileTable:
    """All choices of one device.

    Attributes:
        device: its name, as torch says it.
        source: where and how the choices were timed.
        experts: by weight dtype, `fp8` and `bf16`.
        dense: fp8 only.
    """

    device: str
    source: str
    experts: Mapping[str, Sequence[ExpertChoice]]
    dense: Sequence[DenseChoice]

    def for_experts(self, dtype: torch.dtype, tokens: int) -> tuple[Tiles, Tiles]:
        """Tiles of gate_up and down."""
        for choice in self.experts[_NAMES.get(dtype, "bf16")]:
            if _fits(tokens, choice.up_to_tokens):
                return choice.gate_up, choice.down
        raise AssertionError("the last choice has no limit")

    def for_dense(self, tokens: int, channels: int, depth: int) -> DenseTiles | None:
        """Tiles of a dense fp8 product; None where torch's is as quick."""
        for choice in self.dense:
            if (
                _fits(tokens, choice.up_to_tokens)
                and _fits(channels, choice.up_to_channels)
                and (choice.shape is None or choice.is_for(tokens, channels, depth))
            ):
                return choice.tiles
        raise AssertionError("the last choice has no limit")

    def with_experts(self, dtype: torch.dtype, tokens: int, up: Tiles, down: Tiles) -> "TileTable":
        """The same with other tiles where this number of tokens falls."""
        name, experts = _NAMES[dtype], dict(self.experts)
        place = next(i for i, c in enumerate(experts[name]) if _fits(tokens, c.up_to_tokens))
        changed = list(experts[name])
        changed[place] = replace(changed[place], gate_up=up, down=down)
        experts[name] = tuple(changed)
        return replace(self, experts=experts)

    def with_dense(
        self, tokens: int, channels: int, depth: int, tiles: DenseTiles | None
    ) -> "TileTable":
        """The same with other tiles for matrices of this shape, at up to so many tokens."""
        new = DenseChoice(tiles, tokens, None, (channels, depth))
        own = [c for c in self.dense if c.shape and replace(c, tiles=tiles) != new]
        own = sorted([*own, new], key=lambda c: (c.shape or (), c.up_to_tokens or 0))
        return replace(self, dense=(*own, *(c for c in self.dense if c.shape is None)))


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
                ExpertChoice(Tiles(**c["gate_up"]), Tiles(**c["down"]), c.get("up_to_tokens"))
                for c in choices
            )
            for name, choices in stored["experts"].items()
        }
        dense = tuple(
            DenseChoice(
                None if c["tiles"] is None else DenseTiles(**c["tiles"]),
                c.get("up_to_tokens"),
                c.get("up_to_channels"),
                tuple(c["shape"]) if "shape" in c else None,
            )
            for c in stored["dense"]
        )
        table = TileTable(stored["device"], stored["source"], experts, dense)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no table of tiles: {error}") from error
    if set(table.experts) != set(_NAMES.values()):
        raise ValueError(f"{path} has experts {sorted(table.experts)}; must be bf16 and fp8")
    lists: list[Sequence[Any]] = [*table.experts.values(), table.dense]
    for choices in lists:
        if not choices or any(limit is not None for limit in _limits(choices[-1])):
            raise ValueError(f"{path}: the last choice of a list must have no limit")
    return table


def write_table(table: TileTable, path: Path) -> None:
    """Writes a table so that a change of one tile is a change of one line."""
    lines = [f' "device": {json.dumps(table.device)},', f' "source": {json.dumps(table.source)},']
    lines.append(' "experts": {')
    for last, (name, choices) in _ends(sorted(table.experts.items())):
        lines.append(f'  "{name}": [')
        lines += [f"   {_line(choice)}{'' if end else ','}" for end, choice in _ends(choices)]
        lines.append("  ]" if last else "  ],")
    lines += [" },", ' "dense": [']
    lines += [f"  {_line(choice)}{'' if end else ','}" for end, choice in _ends(table.dense)]
    path.write_text("\n".join(["{", *lines, " ]", "}", ""]))


def _ends(items: Sequence[Any]) -> list[tuple[bool, Any]]:
    return [(place == len(items) - 1, item) for place, item in enumerate(items)]


def _line(choice: ExpertChoice | DenseChoice) -> str:
    """Limits first; what equals a default is left out."""
    names = [name for name in asdict(choice) if name not in ("gate_up", "down", "tiles")]
    plain = {name: getattr(choice, name) for name in names if getattr(choice, name) is not None}
    for name in ("gate_up", "down", "tiles"):
        tiles = getattr(choice, name, None)
        if tiles is not None:
            defaults = asdict(type(tiles)())
            plain[name] = {k: v for k, v in asdict(tiles).items() if v != defaults[k]}
        elif name == "tiles" and isinstance(choice, DenseChoice):
            plain[name] = None
    return json.dumps(plain)


def _limits(choice: ExpertChoice | DenseChoice) -> list[object]:
    names = ("up_to_tokens", "up_to_channels", "shape")
    return [getattr(choice, name, None) for name in names]


def _fits(value: int, limit: int | None) -> bool:
    return limit is None or value <= limit
