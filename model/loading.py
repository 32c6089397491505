"""From a preset or a checkpoint folder to a model that is ready to generate."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from model.checkpoint import CheckedCheckpoint, CheckpointReader
from model.config import PRESETS, Decoding, ModelConfig
from model.config_json import architecture, check_same_architecture, read_config, stores_fp8
from model.diffusion import DiffusionTransformer
from model.dummy import materialise, parts
from model.execution import make_wrapper
from model.folded import fold
from model.ops import Ops, make_ops
from model.precision import (
    Applied,
    Precision,
    applied_to,
    check_device,
    check_vocabulary,
    convert,
    finish,
    kept_fp8_dtype,
)
from model.transformer import Transformer
from model.vocabulary import Vocabulary

SHIPPED = Path(__file__).parent / "tiny" / "weights"


@dataclass(frozen=True, slots=True)
class Weights:
    """Where a model's numbers come from.

    Attributes:
        kind: tiny (shipped and trained), dummy (random) or checkpoint.
        folder: the checkpoint folder, None for dummy weights.
        sha256: of all safetensors files in name order, or of samples of large ones and marked so
            (`CheckpointReader.fingerprint`); None for dummy weights.
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
    vocabulary: str = "exact",
    kernels: str = "torch",
    execution: str = "eager",
    device: str = "cpu",
    weights: str | None = None,
    seed: int = 0,
) -> LoadedModel:
    """Loads a model.

    Args:
        preset_or_path: a name in `PRESETS`, or a folder with config.json and safetensors.
        vocabulary: fp8 for products with the vocabulary in fp8, beside precision bf16 or fp8.
        weights: a checkpoint folder for a preset, "dummy" for seeded random weights, or None for
            what belongs to it: the shipped weights of the tiny pair, the folder's own.

    Raises:
        ValueError: an unknown name or choice, a preset without weights, or a checkpoint that does
            not fit; the message names the value and the valid choices.
    """
    if precision not in list(Precision):
        raise ValueError(f"precision {precision!r} is unknown; valid: {', '.join(Precision)}")
    if vocabulary not in list(Vocabulary):
        raise ValueError(f"vocabulary {vocabulary!r} is unknown; valid: {', '.join(Vocabulary)}")
    chosen, place, products = Precision(precision), torch.device(device), Vocabulary(vocabulary)
    check_vocabulary(chosen, products)
    check_device(place, chosen, products)
    wrapper = make_wrapper(execution, place)
    ops = make_ops(kernels)
    config, folder = locate(preset_or_path, weights)
    tokenizer = None if folder is None else read_tokenizer(folder)
    with torch.device("meta"):
        model = make_model(config, ops)
    model.requires_grad_(False)
    if folder is None:
        source = Weights("dummy", None, None)
        materialise(model, place, seed, lambda part: convert(part, chosen))
    else:
        fingerprint = _stream(model, config, folder, chosen, place)
        shipped = folder.parent == SHIPPED
        source = Weights("tiny" if shipped else "checkpoint", folder, fingerprint)
    finish(model, chosen, products)
    applied = applied_to(model.device, chosen, products)
    model.eval()
    if kernels == "torch":
        fold(model)
    elif kernels == "triton":
        _fuse(model)
    model.wrap_step = wrapper
    return LoadedModel(model, config, source, applied, kernels, execution, tokenizer)


def make_model(config: ModelConfig, ops: Ops) -> Transformer:
    """The sibling that a configuration describes, without weights of its own."""
    kind = DiffusionTransformer if config.decoding is Decoding.DIFFUSION else Transformer
    return kind(config, ops)


def _stream(
    model: Transformer,
    config: ModelConfig,
    folder: Path,
    precision: Precision,
    device: torch.device,
) -> str:
    """Fills a model on the meta device from a checkpoint; returns the weights' fingerprint.

    One part at a time goes to the device and is converted there, so no more than one lies there in
    its stored width, and the host holds one tensor of the checkpoint.
    """
    is_fp8 = stores_fp8(folder)
    if is_fp8 and precision is not Precision.FP8:
        raise ValueError(
            f"checkpoint {folder} holds fp8 weights, which are not turned back into {precision}; "
            "valid: precision fp8"
        )
    reader = CheckpointReader(folder)
    checkpoint = CheckedCheckpoint(config, reader, fp8=is_fp8)
    plain = torch.float32 if precision is Precision.FP32 else torch.bfloat16
    for name, part in parts(model):
        stored = checkpoint.fill(
            name, part, device, dtype=plain, matrix_dtype=kept_fp8_dtype(device)
        )
        convert(part, precision, stored)
    reader.close()
    return reader.fingerprint()


def _fuse(model: Transformer) -> None:
    if model.dtype is not torch.bfloat16 or model.device.type != "cuda":
        raise ValueError(
            f"kernels 'triton' run bf16 and fp8 on a CUDA device, not {model.dtype} on "
            f"{model.device.type}; valid here: reference, torch"
        )
    from model.kernels.block import fuse
    from model.kernels.vocabulary import fuse_vocabulary

    fuse(model)
    fuse_vocabulary(model)


def locate(preset_or_path: str, weights: str | None) -> tuple[ModelConfig, Path | None]:
    """The architecture and the folder of its weights, None for dummy ones."""
    config = architecture(preset_or_path)
    if weights == "dummy":
        return config, None
    if preset_or_path not in PRESETS:
        return config, Path(preset_or_path).expanduser()
    if weights is not None:
        folder = Path(weights).expanduser()
        if not folder.is_dir():
            raise ValueError(f"checkpoint {folder} is not a folder")
        found = read_config(folder)
        check_same_architecture(found, config, folder)
        return replace(found, name=config.name, sibling=config.sibling), folder
    shipped = SHIPPED / config.decoding
    if not config.name.startswith("tiny-"):
        raise ValueError(
            f"model {config.name} has no shipped weights; give weights=PATH or weights=dummy"
        )
    return config, shipped


def read_tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.exists():
        raise ValueError(f"{path} is missing")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception on malformed files
        raise ValueError(f"{path} is no tokenizer file: {error}") from error
