"""From a checkpoint's tensors to a model's, part by part, straight to where they are to live.

Everything that headers can tell is checked before the first byte of data is read. Each tensor is
then read by itself and copied into its slice of a merged target on the device, so the host holds
one tensor besides the model. Whether values are finite is asked of the slice, on the device.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from model.checkpoint.names import (
    Layout,
    Rule,
    Source,
    is_skipped,
    rules,
    scale_name,
    text_prefixes,
)
from model.checkpoint.reader import CheckpointReader
from model.config import ModelConfig
from model.dummy import parts
from model.float8 import ScaledMatrix

_PLAIN_DTYPES = ("BF16", "F32")
_FP8_NAN_BITS = 0x7F  # e4m3 has no infinity and one NaN of either sign


@dataclass(frozen=True, slots=True)
class _Filling:
    """One part's targets, allocated, and which slice of one each source is copied to."""

    slices: dict[str, Tensor] = field(default_factory=dict)
    scales: set[str] = field(default_factory=set)


class CheckedCheckpoint:
    """A checkpoint whose tensors are all there, known, and of the right type and shape.

    Args:
        fp8: it is to hold the fp8 recipe's matrices in e4m3 (its `quantization_config` says so).

    Raises:
        ValueError: a tensor is missing, unknown, or of a wrong type or shape; it is named.
    """

    def __init__(self, config: ModelConfig, reader: CheckpointReader, *, fp8: bool = False) -> None:
        self.config, self.reader = config, reader
        self.layout = _layout(config, reader, fp8=fp8)
        self._rules: dict[str, list[Rule]] = {}
        for rule in rules(config, self.layout):
            self._rules.setdefault(rule.part, []).append(rule)
        used = set(self._checked())
        unknown = sorted(n for n in reader.names - used if not is_skipped(n))
        if unknown:
            raise ValueError(f"tensor {unknown[0]} in {reader.folder} is unknown to {config.name}")

    def fill(
        self,
        name: str,
        part: nn.Module,
        device: torch.device,
        *,
        dtype: torch.dtype | None = None,
        matrix_dtype: torch.dtype = torch.float8_e4m3fn,
    ) -> Mapping[str, ScaledMatrix]:
        """Gives one part of a model (`model.dummy.parts`) its tensors.

        Args:
            dtype: what plain tensors become, None to leave them as they are stored.
            matrix_dtype: what e4m3 values are kept in; a wider type holds them exactly.

        Returns:
            of an fp8 checkpoint the matrices of the recipe, by their names in the part; they stay
            on the meta device there and are for `model.precision` to put in place.

        Raises:
            ValueError: a tensor has values that are not finite, or a scale that is not positive.
        """
        filling = _Filling()
        state: dict[str, Tensor] = {}
        scaled: dict[str, ScaledMatrix] = {}
        shapes = {target: tensor.shape for target, tensor in part.state_dict().items()}
        for rule in self._rules[name]:
            shape = shapes[rule.target]
            if self.layout.fp8 and rule.in_recipe:
                values = torch.empty(shape, dtype=matrix_dtype, device=device)
                scale = torch.empty((*shape[:-1], 1), dtype=torch.float32, device=device)
                scaled[rule.target] = ScaledMatrix(values, scale)
                scales = [Source(scale_name(s.name), (s.shape[0], 1)) for s in rule.sources]
                filling.slices.update(_slices(values, rule.sources))
                filling.slices.update(_slices(scale, scales))
                filling.scales.update(s.name for s in scales)
            else:
                stored = self.reader.dtype(rule.sources[0].name)
                target = torch.empty(shape, dtype=dtype or stored, device=device)
                state[rule.target] = target
                filling.slices.update(_slices(target, rule.sources))
        self._copy(filling)
        part.load_state_dict(state, strict=False, assign=True)
        return scaled

    def _copy(self, filling: _Filling) -> None:
        for name in self.reader.in_file_order(list(filling.slices)):
            target = filling.slices[name]
            target.copy_(self.reader.read(name).view(target.shape))
            fault = _fault(target, is_scale=name in filling.scales)
            if fault:
                raise ValueError(f"tensor {name} in {self.reader.folder} {fault}")

    def _checked(self) -> Iterator[str]:
        """The names of all tensors that the model needs, each checked."""
        for part in self._rules.values():
            for rule in part:
                is_fp8 = self.layout.fp8 and rule.in_recipe
                dtypes = ("F8_E4M3",) if is_fp8 else _PLAIN_DTYPES
                for source in rule.sources:
                    yield self._check(source, dtypes)
                    if is_fp8:
                        scale = Source(scale_name(source.name), (source.shape[0], 1))
                        yield self._check(scale, _PLAIN_DTYPES)

    def _check(self, source: Source, dtypes: tuple[str, ...]) -> str:
        folder, stored = self.reader.folder, self.reader.stored.get(source.name)
        if stored is None:
            raise ValueError(f"tensor {source.name} is missing from {folder}")
        if stored.dtype not in dtypes:
            raise ValueError(
                f"tensor {source.name} in {folder} is {stored.dtype}; "
                f"{'an fp8' if self.layout.fp8 else 'an unquantised'} checkpoint has "
                f"{' or '.join(dtypes)} there"
            )
        if stored.shape != source.shape:
            raise ValueError(
                f"tensor {source.name} has shape {list(stored.shape)}, "
                f"{self.config.name} needs {list(source.shape)}"
            )
        return source.name


def load_into(model: nn.Module, config: ModelConfig, reader: CheckpointReader) -> None:
    """Fills a model with an unquantised checkpoint's tensors, in their stored type, on the host.

    Raises:
        ValueError: a tensor is missing, unknown, not finite or of a wrong type or shape.
    """
    checkpoint = CheckedCheckpoint(config, reader)
    for name, part in parts(model):
        checkpoint.fill(name, part, torch.device("cpu"))
    reader.close()


def _layout(config: ModelConfig, reader: CheckpointReader, *, fp8: bool) -> Layout:
    prefixes = text_prefixes(config)
    prefix = next((p for p in prefixes if f"{p}embed_tokens.weight" in reader.stored), None)
    if prefix is None:
        raise ValueError(
            f"checkpoint {reader.folder} is no {config.decoding} model: "
            f"no tensor {prefixes[0]}embed_tokens.weight"
        )
    one_by_one = f"{prefix}layers.0.experts.0.gate_proj.weight" in reader.stored
    return Layout(prefix, per_expert=fp8 or one_by_one, fp8=fp8)


def _slices(target: Tensor, sources: Sequence[Source]) -> Iterator[tuple[str, Tensor]]:
    """The rows of a target that each of its sources is copied to."""
    rows = target.flatten(0, -2) if target.ndim > 1 else target
    sizes = [math.prod(s.shape[:-1]) if len(s.shape) > 1 else s.shape[0] for s in sources]
    for source, part in zip(sources, rows.split(sizes), strict=True):
        yield source.name, part


def _fault(tensor: Tensor, *, is_scale: bool) -> str | None:
    """What is wrong with values, found without a copy of them: the extremes carry a NaN along."""
    if tensor.dtype is torch.float8_e4m3fn:
        is_finite = not bool(((tensor.view(torch.uint8) & _FP8_NAN_BITS) == _FP8_NAN_BITS).any())
    else:
        low, high = tensor.aminmax()
        is_finite = bool(low.isfinite() & high.isfinite())
        if is_finite and is_scale and not bool(low > 0):
            return "has scales that are not positive"
    return None if is_finite else "has values that are not finite"
