"""Loading holds little besides the model: less than two of the checkpoint's largest shards."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.checkpoint import CheckedCheckpoint, CheckpointReader, Layout, entries
from model.checkpoint.reader import Stored
from model.config import AttentionConfig, ModelConfig, MoEConfig, preset
from model.dummy import parts
from model.loading import make_model
from model.ops import make_ops
from tests.model.fp8_checkpoint import fp8_layout, write_dummy

ROOT = Path(__file__).parents[2]
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")

# 45 M parameters, 9 M a layer: as in the released model layers straddle shards.
SMALL = replace(
    preset("mini-diffusion"),
    layer_types=("sliding", "full") * 2,
    vocab_size=8192,
    moe=MoEConfig(num_experts=64, top_k=4, hidden_size=80),
    sliding=AttentionConfig(num_kv_heads=4, head_dim=64, rope_theta=1e4, window=64),
)
REAL = replace(
    preset("diffusiongemma-26b-a4b"),
    layer_types=("sliding", "sliding", "full"),
    name="three layers",
)


def layout_of(config: ModelConfig, precision: str) -> Layout:
    fp8 = fp8_layout(config)
    return fp8 if precision == "fp8" else replace(fp8, per_expert=False, fp8=False)


def measured(folder: Path, precision: str) -> dict:
    command = [sys.executable, "-m", "tests.model.loading_memory", str(folder), precision]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def largest_shard(folder: Path) -> int:
    return max(path.stat().st_size for path in folder.glob("*.safetensors"))


@needs_proc
@pytest.mark.parametrize("precision", ["fp8", "bf16"])
def test_a_small_model_s_loading_holds_less_than_two_shards(precision: str, tmp_path: Path) -> None:
    folder = tmp_path / precision
    write_dummy(SMALL, folder, layout_of(SMALL, precision), shard_bytes=16 << 20)
    found = measured(folder, precision)
    assert len(list(folder.glob("*.safetensors"))) > 1
    assert found["logits_finite"]
    assert found["model_bytes"] > 4 * largest_shard(folder)
    assert found["extra_bytes"] < 2 * largest_shard(folder), found


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp8", "bf16"])
def test_a_tenth_of_the_real_model_loads_within_two_shards(precision: str, tmp_path: Path) -> None:
    """3 of 30 layers at the real widths. Emulation keeps products in fp32: 15 GB are resident."""
    folder = tmp_path / precision
    write_dummy(REAL, folder, layout_of(REAL, precision), shard_bytes=2 * 10**9)
    found = measured(folder, precision)
    found["largest_shard_bytes"] = largest_shard(folder)
    print(json.dumps(found))
    assert found["weights"].startswith("sampled:")
    assert found["logits_finite"]
    assert found["extra_bytes"] < 2 * found["largest_shard_bytes"], found


@pytest.mark.parametrize("name", ["diffusiongemma-26b-a4b", "gemma-4-26b-a4b"])
@pytest.mark.parametrize("precision", ["fp8", "bf16"])
def test_the_real_models_resolve_without_data(
    name: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every header entry of the real checkpoint finds its slice, with no byte of data behind it."""
    monkeypatch.setattr("model.checkpoint.fill._fault", lambda tensor, is_scale: None)
    config = preset(name)
    reader = HeadersOnly(config, layout_of(config, precision))
    checkpoint = CheckedCheckpoint(config, reader, fp8=precision == "fp8")
    with torch.device("meta"):
        model = make_model(config, make_ops("reference"))
    for part_name, part in parts(model):
        checkpoint.fill(part_name, part, torch.device("meta"))
    assert reader.asked == reader.names
    assert reader.switches <= 2 * sum(1 for _ in parts(model))


class HeadersOnly(CheckpointReader):
    """A reader of what `entries` lists, cut into eleven shards, whose tensors are meta ones."""

    def __init__(self, config: ModelConfig, layout: Layout) -> None:
        self.folder = Path("nowhere")
        listed = list(entries(config, layout))
        size = -(-len(listed) // 11)
        self.stored = {
            entry.name: Stored(Path(f"{i // size:02}"), entry.dtype, entry.shape, i, i + 1)
            for i, entry in enumerate(listed)
        }
        self.asked: set[str] = set()
        self.switches, self._last = 0, Path()

    def read(self, name: str) -> torch.Tensor:
        assert name not in self.asked
        self.asked.add(name)
        stored = self.stored[name]
        self.switches += stored.path != self._last
        self._last = stored.path
        return torch.empty(stored.shape, dtype=self.dtype(name), device="meta")
