"""From a preset or a checkpoint folder to a model that is ready to generate."""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer

from model.checkpoint import CheckpointReader, load_into
from model.config import PRESETS, Decoding, ModelConfig, preset
from model.config_json import read_config
from model.diffusion import DiffusionTransformer
from model.dummy import materialise
from model.execution import make_wrapper
from model.folded import fold
from model.ops import make_ops
from model.precision import Applied, Precision, applied_to, apply_precision, convert, finish
from model.transformer import Transformer

_SHIPPED = Path(__file__).parent / "tiny" / "weights"


@dataclass(frozen=True, slots=True)
class Weights:
    """Where a model's numbers come from.

    Attributes:
        kind: tiny (shipped and trained), dummy (random) or checkpoint.
        folder: the checkpoint folder, None for dummy weights.
        sha256: of all safetensors files in name order, None for dummy weights.
    """

    kind: str
    folder: Path | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model, how it was loaded, and its tokenizer (None with dummy weights)."""

    model: Transformer
    config: ModelConfig
    weights: Weights
    applied: Applied
    kernels: str
    execution: str
    tokenizer: Tokenizer | None


def load(
    preset_or_path: str,
    *,
    precision: str = "fp32",
    kernels: str = "torch",
    execution: str = "eager",
    device: str = "cpu",
    weights: str | None = None,
    seed: int = 0,
) -> LoadedModel:
    """Loads a model.

    Args:
        preset_or_path: a name in `PRESETS`, or a folder with config.json and safetensors.
        weights: a checkpoint folder for a preset, "dummy" for seeded random weights, or None for
            what belongs to it: the shipped weights of the tiny pair, the folder's own.

    Raises:
        ValueError: an unknown name or choice, a preset without weights, or a checkpoint that does
            not fit; the message names the value and the valid choices.
    """
    if precision not in list(Precision):
        raise ValueError(f"precision {precision!r} is unknown; valid: {', '.join(Precision)}")
    wrapper = make_wrapper(execution, torch.device(device))
    ops = make_ops(kernels)
    config, folder = _locate(preset_or_path, weights)
    kind = DiffusionTransformer if config.decoding is Decoding.DIFFUSION else Transformer
    tokenizer = None
    if folder is None:
        source = Weights("dummy", None, None)
        with torch.device("meta"):
            model = kind(config, ops)
        model.requires_grad_(False)
        narrow = partial(convert, precision=Precision(precision))
        materialise(model, torch.device(device), seed, narrow)
        finish(model, Precision(precision))
        applied = applied_to(model.device, Precision(precision))
    else:
        with torch.device("meta"):
            model = kind(config, ops)
        load_into(model, config, CheckpointReader(folder))
        model.to(device)
        shipped = folder.parent == _SHIPPED
        source = Weights("tiny" if shipped else "checkpoint", folder, _sha256(folder))
        tokenizer = _read_tokenizer(folder)
        model.requires_grad_(False)
        applied = apply_precision(model, Precision(precision))
    model.eval()
    if kernels == "torch":
        fold(model)
    elif kernels == "triton":
        _fuse(model)
    model.wrap_step = wrapper
    return LoadedModel(model, config, source, applied, kernels, execution, tokenizer)


def _fuse(model: Transformer) -> None:
    if model.dtype is not torch.bfloat16 or model.device.type != "cuda":
        raise ValueError(
            f"kernels 'triton' run bf16 and fp8 on a CUDA device, not {model.dtype} on "
            f"{model.device.type}; valid here: reference, torch"
        )
    from model.kernels.block import fuse

    fuse(model)


def _locate(preset_or_path: str, weights: str | None) -> tuple[ModelConfig, Path | None]:
    """The architecture and the folder of its weights, None for dummy ones."""
    if preset_or_path not in PRESETS:
        folder = Path(preset_or_path).expanduser()
        if not folder.is_dir():
            raise ValueError(
                f"model {preset_or_path!r} is neither a checkpoint folder nor a preset; "
                f"valid presets: {', '.join(PRESETS)}"
            )
        config = read_config(folder)
        return config, None if weights == "dummy" else folder
    config = preset(preset_or_path)
    if weights == "dummy":
        return config, None
    if weights is not None:
        return config, Path(weights).expanduser()
    shipped = _SHIPPED / config.decoding
    if not config.name.startswith("tiny-"):
        raise ValueError(
            f"model {config.name} has no shipped weights; give weights=PATH or weights=dummy"
        )
    return config, shipped


def _read_tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.exists():
        raise ValueError(f"{path} is missing")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception on malformed files
        raise ValueError(f"{path} is no tokenizer file: {error}") from error


def _sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            for chunk in iter(lambda: file.read(1 << 22), b""):
                digest.update(chunk)
    return digest.hexdigest()
