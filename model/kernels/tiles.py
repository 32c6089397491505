"""Tiles of the product kernels as data: a JSON file a device, read once, never tuned at import.

`model/kernels/tuned/<device>.json` holds what `canvasbench tune` found on that device; a device
without a file gets `default.json`. A list is read from its start: the first entry whose limits are
not exceeded is taken, and its last has none.
"""

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

FP8 = torch.float8_e4m3fn
_FOLDER = Path(__file__).parent / "tuned"
_T = TypeVar("_T")
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
class HeadTiles:
    """Shape and schedule of the q/k/v product that goes on to attention's inputs by itself.

    A program has a whole head, so channels are no choice.

    Args:
        rows: tokens a program.
        inner: depth of a step.
    """

    rows: int = 64
    inner: int = 128
    warps: int = 8
    stages: int = 3


@dataclass(frozen=True, slots=True)
class ExpertChoice:
    """For up to so many tokens (None: any); `one_launch`: scores and routing are one kernel."""

    gate_up: Tiles
    down: Tiles
    up_to_tokens: int | None = None
    one_launch: bool = False


@dataclass(frozen=True, slots=True)
class DenseChoice(Generic[_T]):
    """For up to so many tokens and channels (None: any); without tiles what is there otherwise.

    With a shape, for the matrices of these [channels, depth] alone, from half as many tokens on.
    """

    tiles: _T | None
    up_to_tokens: int | None = None
    up_to_channels: int | None = None
    shape: tuple[int, int] | None = None

    def is_for(self, tokens: int, channels: int, depth: int) -> bool:
        """Whether this matrix and number of tokens are meant."""
        if not _fits(tokens, self.up_to_tokens) or not _fits(channels, self.up_to_channels):
            return False
        if self.shape is None:
            return True
        return self.shape == (channels, depth) and 2 * tokens > (self.up_to_tokens or 0)


@dataclass(frozen=True, slots=True)
class TileTable:
    """All choices of one device.

    Attributes:
        device: its name, as torch says it.
        source: where and how the choices were timed.
        experts: by weight dtype, `fp8` and `bf16`.
        dense: fp8 only; without tiles torch's product.
        qkv: fp8 only, the q/k/v product that writes attention's inputs; without tiles that is two
            launches, of a dense product and of `heads.qkv_norm_rope_write`.
    """

    device: str
    source: str
    experts: Mapping[str, Sequence[ExpertChoice]]
    dense: Sequence[DenseChoice[DenseTiles]]
    qkv: Sequence[DenseChoice[HeadTiles]]

    def for_experts(self, dtype: torch.dtype, tokens: int) -> tuple[Tiles, Tiles]:
        """Tiles of gate_up and down."""
        for choice in self.experts[_NAMES.get(dtype, "bf16")]:
            if _fits(tokens, choice.up_to_tokens):
                return choice.gate_up, choice.down
        raise AssertionError("the last choice has no limit")

    def for_router(self, dtype: torch.dtype, tokens: int) -> bool:
        """Whether scores and routing are one launch, before experts of this dtype."""
        choices = self.experts[_NAMES.get(dtype, "bf16")]
        return next(c.one_launch for c in choices if _fits(tokens, c.up_to_tokens))

    def for_dense(self, tokens: int, channels: int, depth: int) -> DenseTiles | None:
        """Tiles of a dense fp8 product; None where torch's is as quick."""
        return next(c.tiles for c in self.dense if c.is_for(tokens, channels, depth))

    def for_qkv(self, tokens: int, channels: int, depth: int) -> HeadTiles | None:
        """Tiles of a q/k/v product in one launch; None for two."""
        return next(c.tiles for c in self.qkv if c.is_for(tokens, channels, depth))

    def with_experts(self, dtype: torch.dtype, tokens: int, up: Tiles, down: Tiles) -> "TileTable":
        """The same with other tiles where this number of tokens falls."""
        return self._with_choice(dtype, tokens, gate_up=up, down=down)

    def with_router(self, dtype: torch.dtype, tokens: int, one_launch: bool) -> "TileTable":
        """The same with routing in one or two launches where this number of tokens falls."""
        return self._with_choice(dtype, tokens, one_launch=one_launch)

    def with_dense(
        self, tokens: int, channels: int, depth: int, tiles: DenseTiles | None
    ) -> "TileTable":
        """The same with other tiles for matrices of this shape, at up to so many tokens."""
        new = DenseChoice(tiles, tokens, None, (channels, depth))
        return replace(self, dense=_with(self.dense, new))

    def with_qkv(
        self, tokens: int, channels: int, depth: int, tiles: HeadTiles | None
    ) -> "TileTable":
        """Likewise for q/k/v products."""
        new = DenseChoice(tiles, tokens, None, (channels, depth))
        return replace(self, qkv=_with(self.qkv, new))

    def _with_choice(self, dtype: torch.dtype, tokens: int, **changes: Any) -> "TileTable":
        name, experts = _NAMES[dtype], dict(self.experts)
        place = next(i for i, c in enumerate(experts[name]) if _fits(tokens, c.up_to_tokens))
        changed = list(experts[name])
        changed[place] = replace(changed[place], **changes)
        experts[name] = tuple(changed)
        return replace(self, experts=experts)


def _with(choices: Sequence[DenseChoice[_T]], new: DenseChoice[_T]) -> tuple[DenseChoice[_T], ...]:
    """Choices by shape come first, the fewest tokens of a shape before more."""
    own = [c for c in choices if c.shape and replace(c, tiles=new.tiles) != new]
    own = sorted([*own, new], key=lambda c: (c.shape or (), c.up_to_tokens or 0))
    return (*own, *(c for c in choices if c.shape is None))


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
                )
                for c in choices
            )
            for name, choices in stored["experts"].items()
        }
        dense = _read_choices(stored["dense"], DenseTiles)
        qkv = _read_choices(stored["qkv"], HeadTiles)
        table = TileTable(stored["device"], stored["source"], experts, dense, qkv)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no table of tiles: {error}") from error
    if set(table.experts) != set(_NAMES.values()):
        raise ValueError(f"{path} has experts {sorted(table.experts)}; must be bf16 and fp8")
    lists: list[Sequence[Any]] = [*table.experts.values(), table.dense, table.qkv]
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
    lines.append(' "experts": {')
    for last, (name, choices) in _ends(sorted(table.experts.items())):
        lines.append(f'  "{name}": [')
        lines += [f"   {_line(choice)}{'' if end else ','}" for end, choice in _ends(choices)]
        lines.append("  ]" if last else "  ],")
    lines.append(" },")
    lists: list[tuple[str, Sequence[DenseChoice[Any]]]] = [
        ("dense", table.dense),
        ("qkv", table.qkv),
    ]
    for last, (name, choices) in _ends(lists):
        lines.append(f' "{name}": [')
        lines += [f"  {_line(choice)}{'' if end else ','}" for end, choice in _ends(choices)]
        lines.append(" ]" if last else " ],")
    path.write_text("\n".join(["{", *lines, "}", ""]))


def _ends(items: Sequence[Any]) -> list[tuple[bool, Any]]:
    return [(place == len(items) - 1, item) for place, item in enumerate(items)]


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


def _fits(value: int, limit: int | None) -> bool:
    return limit is None or value <= limit
