"""Trains the tiny pair: `python -m model.tiny.train diffusion --out FOLDER` (or `autoregressive`).

Diffusion: the clean canvas is predicted from one in which a share t ~ U(0, 1) of the positions
carries uniform random tokens (t = 1 for some examples, as every generation starts there); half of
the examples also see their own first guess through self-conditioning. Autoregressive: next-token
prediction of the answer. Both: AdamW, one cosine cycle, averaged weights, seeded. The folder
becomes a checkpoint in the released layout (bf16); a stopped training resumes from the state saved
beside it. `--start` begins from other weights, also the sibling's: the blocks are the same, and the
autoregressive model then learns in a tenth of the steps. The stages that made the shipped weights,
with their curves, stand in each one's training.json.
"""

import argparse
import ctypes
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from model.checkpoint import CheckpointReader, load_into, save
from model.config import Decoding, ModelConfig, preset
from model.config_json import read_config, write_config
from model.diffusion import DiffusionTransformer
from model.dummy import fill_with_random
from model.ops import make_ops
from model.tiny.data import canvas_batches, sequence_batches
from model.tiny.losses import autoregressive_loss, diffusion_loss
from model.tiny.tokenizer import build_tokenizer
from model.transformer import Transformer

_AVERAGE_DECAY = 0.998
_WARM_UP_SHARE = 0.03
_SAVE_EVERY = 500
_LOG_EVERY = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides the weights; one training a recipe.

    Attributes:
        start: a checkpoint of either sibling to start from (they share their blocks); None for
            random weights.
    """

    sibling: str
    num_steps: int
    batch_size: int
    learning_rate: float
    seed: int
    start: str | None = None


def learning_rate_at(step: int, recipe: Recipe) -> float:
    """Cosine up from 1/25 of the peak over the first 3 % of the steps, then down to nearly zero."""
    peak, low = recipe.learning_rate, recipe.learning_rate / 25
    top = _WARM_UP_SHARE * recipe.num_steps - 1
    if step <= top:
        begin, end, share = low, peak, step / top
    else:
        begin, end, share = peak, low / 1e4, (step - top) / (recipe.num_steps - 1 - top)
    return end + (begin - end) / 2 * (1 + math.cos(math.pi * share))


class Trainer:
    """Model, optimizer, averaged weights and the loss curve, saved and restored together."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe = recipe
        self.step = 0
        self.curve: list[dict[str, float]] = []
        self._folder = folder
        self._config = preset(f"tiny-{recipe.sibling}")
        self._model = _make_model(self._config)
        if recipe.start is None:
            fill_with_random(self._model, recipe.seed)
        else:
            _start_from(self._model, Path(recipe.start))
        self._average = {n: p.detach().clone() for n, p in self._model.named_parameters()}
        self._optimizer = torch.optim.AdamW(
            self._model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
        )
        if self._state_path.exists():
            self._restore()
        self._next_loss = _loss_stream(self._model, self._config, recipe, self.step)

    @property
    def _state_path(self) -> Path:
        return self._folder / "training" / "state.safetensors"

    def run(self) -> None:
        """Trains to the recipe's last step, saving on the way."""
        started, window = time.monotonic(), []
        while self.step < self.recipe.num_steps:
            window.append(self._advance())
            if self.step % _LOG_EVERY == 0:
                loss = sum(window) / len(window)
                self.curve.append({"step": self.step, "loss": round(loss, 5)})
                seconds = time.monotonic() - started
                print(
                    f"{self.step}/{self.recipe.num_steps} loss {loss:.4f} {seconds:.0f} s",
                    flush=True,
                )
                window = []
            if self.step % _SAVE_EVERY == 0 or self.step == self.recipe.num_steps:
                self.save()

    def _advance(self) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate_at(self.step, self.recipe)
        loss = self._next_loss()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self.step += 1
        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                self._average[name].lerp_(parameter, 1 - _AVERAGE_DECAY)
        return loss.item()

    def save(self) -> None:
        """Writes the checkpoint of the averaged weights and, atomically, the training state."""
        self._state_path.parent.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {}
        for name, parameter in self._model.named_parameters():
            moments = self._optimizer.state[parameter]
            tensors[f"model/{name}"] = parameter.detach()
            tensors[f"average/{name}"] = self._average[name]
            tensors[f"exp_avg/{name}"] = moments["exp_avg"]
            tensors[f"exp_avg_sq/{name}"] = moments["exp_avg_sq"]
        progress = {"step": self.step, "curve": self.curve, "recipe": asdict(self.recipe)}
        part = self._state_path.with_suffix(".part")
        save_file(tensors, part, metadata={"progress": json.dumps(progress)})
        part.rename(self._state_path)

        averaged = _make_model(self._config)
        averaged.load_state_dict(self._average, strict=False)  # buffers keep their ones
        save(averaged, self._config, self._folder / "model.safetensors", torch.bfloat16)
        write_config(self._config, self._folder)
        build_tokenizer().save(str(self._folder / "tokenizer.json"))
        (self._folder / "training.json").write_text(json.dumps(progress, indent=1) + "\n")

    def _restore(self) -> None:
        with safe_open(self._state_path, framework="pt") as file:
            progress: dict[str, Any] = json.loads(file.metadata()["progress"])
            if progress["recipe"] != asdict(self.recipe):
                raise ValueError(
                    f"{self._folder} holds a training by another recipe: {progress['recipe']}"
                )
            self.step, self.curve = progress["step"], progress["curve"]
            for name, parameter in self._model.named_parameters():
                with torch.no_grad():
                    parameter.copy_(file.get_tensor(f"model/{name}"))
                self._average[name] = file.get_tensor(f"average/{name}")
                self._optimizer.state[parameter] = {
                    "step": torch.tensor(float(self.step)),
                    "exp_avg": file.get_tensor(f"exp_avg/{name}"),
                    "exp_avg_sq": file.get_tensor(f"exp_avg_sq/{name}"),
                }


def keep_freed_memory() -> None:
    """Asks glibc to keep freed blocks: training otherwise spends half its time in the kernel."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # not glibc: slower, not wrong
        return
    for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
        libc.mallopt(option, 1 << 30)


def _make_model(config: ModelConfig) -> Transformer:
    kind = DiffusionTransformer if config.decoding is Decoding.DIFFUSION else Transformer
    return kind(config, make_ops("torch"))


def _start_from(model: Transformer, folder: Path) -> None:
    """Gives a model the weights of a checkpoint, as far as the two siblings share them."""
    config = read_config(folder)
    start = _make_model(config)
    load_into(start, config, CheckpointReader(folder))
    own = model.state_dict()
    model.load_state_dict({n: t for n, t in start.state_dict().items() if n in own}, strict=False)


def _loss_stream(
    model: Transformer, config: ModelConfig, recipe: Recipe, step: int
) -> Callable[[], Tensor]:
    """A function that draws the next batch and returns its loss; a resumed one draws new data."""
    tokenizer, seed = build_tokenizer(), recipe.seed + step
    if isinstance(model, DiffusionTransformer):
        generator = torch.Generator().manual_seed(seed)
        canvases = canvas_batches(tokenizer, config, recipe.batch_size, seed)
        return lambda: diffusion_loss(model, next(canvases), generator)
    sequences = sequence_batches(tokenizer, config, recipe.batch_size, seed)
    return lambda: autoregressive_loss(model, next(sequences))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sibling", choices=[d.value for d in Decoding])
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and state")
    parser.add_argument("--num-steps", type=int, default=8500)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument(
        "--start", help="checkpoint folder to start from, instead of random weights"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = vars(parser.parse_args())
    torch.set_num_threads(given.pop("threads"))
    keep_freed_memory()
    Trainer(folder=given.pop("out"), recipe=Recipe(**given)).run()


if __name__ == "__main__":
    main()
