"""Trains the tiny pair: `python -m model.tiny.train diffusion` (or `autoregressive`).

Diffusion: the clean canvas is predicted from one in which a share t ~ U(0, 1) of the positions
carries uniform random tokens (t = 1 for some examples, as every generation starts there); half of
the examples also see their own first guess through self-conditioning. Autoregressive: next-token
prediction of the answer. Both: AdamW, cosine schedule, averaged weights, seeded, resumable from the
last saved state.

Legend: B examples, L canvas, S sequence, V vocab.
"""

import argparse
import ctypes
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.checkpoint import save
from model.config import Decoding, ModelConfig, preset
from model.diffusion import DiffusionTransformer
from model.ops import make_ops
from model.tiny.data import CanvasBatch, SequenceBatch, canvas_batches, sequence_batches
from model.tiny.tokenizer import build_tokenizer
from model.transformer import Transformer

_FULL_NOISE_SHARE = 0.15
_SELF_CONDITIONING_SHARE = 0.5
_SAVE_EVERY = 500
_LOG_EVERY = 50


class TapeCache:
    """A cache that keeps autograd's graph: prefixes are concatenated, nothing is overwritten."""

    def __init__(self, start_B: Tensor | None = None) -> None:
        self.num_cached = 0
        self.start_B = start_B
        self._prefix: dict[int, tuple[Tensor, Tensor]] = {}
        self._open: dict[int, tuple[Tensor, Tensor]] = {}

    def write_and_view(
        self, layer: int, key_BGLH: Tensor, value_BGLH: Tensor, *, whole_prefix: bool
    ) -> tuple[Tensor, Tensor]:
        del whole_prefix  # training sequences fit into the window
        if layer in self._prefix:
            key, value = self._prefix[layer]
            key_BGLH = torch.cat((key, key_BGLH), dim=2)
            value_BGLH = torch.cat((value, value_BGLH), dim=2)
        self._open[layer] = (key_BGLH, value_BGLH)
        return key_BGLH, value_BGLH

    def advance(self, length: int) -> None:
        self.num_cached += length
        self._prefix = dict(self._open)

    def first_rows(self, num_rows: int) -> "TapeCache":
        """The same prefix for the first rows of the batch alone."""
        part = TapeCache(None if self.start_B is None else self.start_B[:num_rows])
        part.num_cached = self.num_cached
        part._prefix = {
            layer: (key[:num_rows], value[:num_rows])
            for layer, (key, value) in self._prefix.items()
        }
        return part


def diffusion_loss(
    model: DiffusionTransformer, batch: CanvasBatch, generator: torch.Generator
) -> Tensor:
    """Cross-entropy of the clean canvas, all positions, from a noisy one."""
    batch_size, length = batch.canvas_BL.shape
    noise_B1 = torch.rand(batch_size, 1, generator=generator)
    full = torch.rand(batch_size, 1, generator=generator) < _FULL_NOISE_SHARE
    corrupt = torch.rand(batch_size, length, generator=generator) < noise_B1.masked_fill(full, 1.0)
    random_BL = torch.randint(model.config.vocab_size, (batch_size, length), generator=generator)
    noisy_BL = torch.where(corrupt, random_BL, batch.canvas_BL)

    cache = TapeCache(batch.start_B)
    model.encode(batch.prefix_BP, cache)
    num_guided = int(batch_size * _SELF_CONDITIONING_SHARE)
    with torch.no_grad():
        temperature = 0.4 + 0.4 * torch.rand(num_guided, 1, 1, generator=generator)
        guess = model.denoise(noisy_BL[:num_guided], None, cache.first_rows(num_guided))
        signal = model.signal(guess / temperature)
        signal = F.pad(signal, (0, 0, 0, 0, 0, batch_size - num_guided))
    logits_BLV = model.denoise(noisy_BL, signal, cache)
    return F.cross_entropy(logits_BLV.flatten(0, 1), batch.canvas_BL.flatten())


def autoregressive_loss(model: Transformer, batch: SequenceBatch) -> Tensor:
    """Cross-entropy of the answer's tokens, each from what precedes it."""
    hidden = model.encode(batch.token_BS[:, :-1], TapeCache())
    is_target = batch.is_answer_BS[:, 1:]
    return F.cross_entropy(model.logits(hidden[is_target]), batch.token_BS[:, 1:][is_target])


def initialise(model: nn.Module, seed: int) -> None:
    """Normal weights with variance 1 / fan-in; norms and scales stay at one."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            std = 0.5 / parameter.shape[-1] ** 0.5 if name == "embedding.weight" else None
            std = std or parameter.shape[-1] ** -0.5
            nn.init.normal_(parameter, std=std, generator=generator)


def keep_freed_memory() -> None:
    """Asks glibc to keep freed blocks: training otherwise spends half its time in the kernel."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # not glibc: slower, not wrong
        return
    for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
        libc.mallopt(option, 1 << 30)


def make_model(config: ModelConfig) -> Transformer:
    kind = DiffusionTransformer if config.decoding is Decoding.DIFFUSION else Transformer
    return kind(config, make_ops("torch"))


def loss_stream(
    model: Transformer, config: ModelConfig, batch_size: int, seed: int
) -> Callable[[], Tensor]:
    """A function that draws the next batch and returns its loss."""
    tokenizer = build_tokenizer()
    if isinstance(model, DiffusionTransformer):
        generator = torch.Generator().manual_seed(seed)
        canvases = canvas_batches(tokenizer, config, batch_size, seed)
        return lambda: diffusion_loss(model, next(canvases), generator)
    sequences = sequence_batches(tokenizer, config, batch_size, seed)
    return lambda: autoregressive_loss(model, next(sequences))


def train(
    config: ModelConfig,
    out: Path,
    *,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Trains one sibling and writes `out/model.safetensors` (bf16) and `out/curve.json`."""
    keep_freed_memory()
    out.mkdir(parents=True, exist_ok=True)
    model = make_model(config)
    initialise(model, seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, num_steps, pct_start=0.03, cycle_momentum=False
    )
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )
    state_path, step, curve = out / "state.pt", 0, []
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        step, curve = state["step"], state["curve"]
    next_loss = loss_stream(model, config, batch_size, seed + step)
    started, window = time.monotonic(), []
    while step < num_steps:
        loss = next_loss()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        step += 1
        window.append(loss.item())
        if step % _LOG_EVERY == 0:
            mean = sum(window) / len(window)
            curve.append({"step": step, "loss": mean})
            print(
                f"{step}/{num_steps} loss {mean:.4f} {time.monotonic() - started:.0f} s", flush=True
            )
            window = []
        if step % _SAVE_EVERY == 0 or step == num_steps:
            state = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "step": step,
                "curve": curve,
            }
            torch.save(state, state_path.with_suffix(".part"))
            state_path.with_suffix(".part").rename(state_path)
            save(average.module, config, out / "model.safetensors", torch.bfloat16)
            (out / "curve.json").write_text(json.dumps(curve))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sibling", choices=[d.value for d in Decoding])
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and state")
    parser.add_argument("--num-steps", type=int, default=8000)
    parser.add_argument("--batch-size", type=int, default=96)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(
        preset(f"tiny-{arguments.sibling}"),
        arguments.out,
        num_steps=arguments.num_steps,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
    )


if __name__ == "__main__":
    main()
