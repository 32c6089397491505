"""`canvasbench verify PATH`: the checks in order, one model in memory at a time, and a verdict."""

import gc
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

import model as engine
from bench.backends.transformers import INSTALL
from bench.chat_template import ChatTemplate
from bench.torch_device import torch_device
from bench.verify.inventory import check_inventory
from bench.verify.judge import (
    LIMITS,
    Check,
    Status,
    judge_answer,
    judge_logits,
    judge_trajectory,
    judged,
)
from bench.verify.native import observe_native
from bench.verify.observed import Asked, Observed, asked_of
from model import ModelConfig
from model.checkpoint import CheckpointReader
from model.config_json import read_config, stores_fp8
from model.ops import make_ops
from model.precision import Precision, check_device
from model.sampling import CanvasNoise

_SEED = 0
_EXIT_CODES = {"PASS": 0, "FAIL": 1, "INCOMPLETE": 3}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be verified and how.

    Attributes:
        precision: what our engine runs in; None for the checkpoint's own.
        question, expected: asked through the checkpoint's chat template, and what the answer
            must contain.
    """

    folder: Path
    precision: str | None
    device: str
    kernels: str
    question: str
    expected: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks and what they come to."""

    folder: Path
    checkpoint: str
    precision: str
    device: str
    checks: list[Check]

    @property
    def verdict(self) -> str:
        """FAIL when a check failed, else INCOMPLETE when one was not run, else PASS."""
        found = {check.status for check in self.checks}
        if Status.FAIL in found:
            return "FAIL"
        return "INCOMPLETE" if Status.NOT_RUN in found else "PASS"

    @property
    def exit_code(self) -> int:
        return _EXIT_CODES[self.verdict]

    def as_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "checkpoint": self.checkpoint,
            "precision": self.precision,
            "device": self.device,
            "verdict": self.verdict,
            "checks": [check.as_json() for check in self.checks],
        }


def verify_checkpoint(wanted: Wanted) -> Verdict:
    """Runs all checks.

    Raises:
        ValueError: no checkpoint folder, another quantisation, or a precision or device that is not
            to be had here.
    """
    folder = wanted.folder.expanduser()
    if not folder.is_dir():
        raise ValueError(f"{folder} is no checkpoint folder")
    config, fp8 = read_config(folder), stores_fp8(folder)
    precision = wanted.precision or ("fp8" if fp8 else "bf16")
    if precision not in LIMITS:
        raise ValueError(f"precision {precision!r} is unknown; valid: {', '.join(LIMITS)}")
    if fp8 and precision != "fp8":
        raise ValueError(f"{folder} holds fp8 weights; valid: --precision fp8")
    device = _device(wanted, precision)
    checks = list(_checks(wanted, folder, config, fp8, precision, device))
    kind = f"{'fp8' if fp8 else 'bf16'} {config.decoding}"
    return Verdict(folder, kind, precision, str(device), checks)


def print_verdict(verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(verdict.as_json(), indent=2))
        return
    table = Table(
        title=f"{verdict.folder.name}: {verdict.checkpoint} checkpoint", title_justify="left"
    )
    for column in ("check", "", "found"):
        table.add_column(column)
    for check in verdict.checks:
        table.add_row(check.name, check.status.value, check.detail)
    console = Console()
    console.print(table)
    console.print(f"{verdict.verdict}  ({verdict.precision} on {verdict.device})")


def _checks(
    wanted: Wanted,
    folder: Path,
    config: ModelConfig,
    fp8: bool,
    precision: str,
    device: torch.device,
) -> Iterator[Check]:
    vision = json.loads((folder / "config.json").read_text()).get("vision_config")
    try:
        inventory = check_inventory(config, vision, CheckpointReader(folder), fp8=fp8)
    except ValueError as error:
        inventory = [judged("files", False, str(error))]
    yield from inventory
    names = ("first-step logits", "canvas trajectory", "known question")
    if any(check.status is Status.FAIL for check in inventory):
        yield from (Check(n, Status.NOT_RUN, "the files are not as expected") for n in names)
        return
    asked = _ask(wanted, folder, config)
    theirs: Observed | None = None
    noise: list[CanvasNoise] = []
    reason = f"needs transformers: {INSTALL}"
    if find_spec("transformers") is not None:
        try:
            theirs, noise = _upstream(
                folder, config, asked, fp8=fp8, precision=precision, device=device
            )
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            reason = f"transformers fails: {(str(error) or repr(error)).splitlines()[0]}"
        _free(device)
    try:
        loaded = engine.load(
            str(folder), precision=precision, kernels=wanted.kernels, device=str(device)
        )
    except ValueError as error:
        yield judged("loading", False, str(error))
        yield from (Check(n, Status.NOT_RUN, "nothing is loaded") for n in names)
        return
    ours = observe_native(loaded, asked, noise)
    if theirs is None:
        yield from (Check(n, Status.NOT_RUN, reason) for n in names[:2])
    else:
        yield judge_logits(ours, theirs, LIMITS[precision])
        yield judge_trajectory(ours, theirs, LIMITS[precision])
    yield _answer(loaded.tokenizer, asked, ours, theirs)


def _device(wanted: Wanted, precision: str) -> torch.device:
    device = torch_device(wanted.device)
    check_device(device, Precision(precision))
    make_ops(wanted.kernels)
    if wanted.kernels == "triton" and (device.type != "cuda" or precision == "fp32"):
        raise ValueError(
            f"kernels 'triton' run bf16 and fp8 on a CUDA device, not {precision} on {device}; "
            "valid here: torch, reference"
        )
    return device


def _upstream(
    folder: Path,
    config: ModelConfig,
    asked: Asked,
    *,
    fp8: bool,
    precision: str,
    device: torch.device,
) -> tuple[Observed, list[CanvasNoise]]:
    from bench.verify.upstream import observe_upstream

    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    return observe_upstream(folder, config, asked, fp8=fp8, dtype=dtype, device=device, seed=_SEED)


def _free(device: torch.device) -> None:
    """Gives the other engine's memory back before ours is loaded."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _ask(wanted: Wanted, folder: Path, config: ModelConfig) -> Asked:
    """The known question where the folder has a chat template, else fixed random tokens."""
    path = folder / "tokenizer.json"
    try:
        template = ChatTemplate.read(folder, thinking=False)
    except ValueError:
        return asked_of(config, None, None)
    if not path.exists():  # loading will say so
        return asked_of(config, None, None)
    text = template.render([{"role": "user", "content": wanted.question}])
    encode: Callable[..., Any] = Tokenizer.from_file(str(path)).encode
    return asked_of(config, list(encode(text, add_special_tokens=False).ids), wanted.expected)


def _answer(
    tokenizer: Tokenizer | None, asked: Asked, ours: Observed, theirs: Observed | None
) -> Check:
    if asked.expected is None or tokenizer is None:
        return Check("known question", Status.NOT_APPLICABLE, "the folder has no chat template")
    told = None if theirs is None else str(tokenizer.decode(theirs.tokens))
    return judge_answer(str(tokenizer.decode(ours.tokens)), told, asked.expected)
