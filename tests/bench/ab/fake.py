"""A git repository whose harness is a few lines: it answers with shards that were made beforehand.

`bench.cli run` of it writes a run.json, or copies the run that is of contents, `bench.worker` the
shards of its tree's variant (the file `bench/variant`). Both add their tree to a log. What it
measures is as exact as the shards, and quick.
"""

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from bench.backends.simulated import (
    ChosenTiming,
    SimulatedSession,
    SyntheticConfig,
    VirtualClock,
    make_recording,
)
from bench.preregistration import preregister
from bench.tables import SCHEMA_VERSION, frame
from bench.telemetry import window_row
from tests.bench.backends.driving import answers, prompts_of, tables_of
from tests.bench.comparison.made import BASE, MACHINE, PROMPTS, TIMING, make_run

POINT, HASH = "diffusion-fp32", "abcdefabcdef"
CONTENT_PROMPTS = 60
CONFIG = {
    "measure": {"num_processes": 40, "num_repeats": 1, "timeout_s": 20.0},
    "workload": {"num_prompts": 10},
}
_KNOBS = {
    "decoding": "diffusion",
    "precision": "fp32",
    "emulated": False,
    "backend": "simulated",
    "model": "synthetic",
    "weights": "synthetic",
    "weights_sha256": "cd" * 32,
    "device": "cpu",
    "workload": "tiny",
    "prompts_sha256": PROMPTS,
    "eos_policy": "stop",
    "max_new_tokens": 64,
    "measure": "screening",
    "trace": "counts",
    "timed": "-",
    "clock": "virtual",
    "batch_size": 1,
    "seed": 0,
    "canvas_length": 32,
    "max_denoising_steps": 48,
    "early_stop": True,
}
_NOTE = {
    "point_id": POINT,
    "knobs": _KNOBS,
    "weight_bytes": {"fixed": 1, "per_expert": 0},
    "host": "host1",
    "warmup": {"num_batches": 1, "stable": True},
    "code": {"commit": "1" * 40, "dirty": False},
    "machine": MACHINE,
}
_CLI = """
import json, shutil, sys
from pathlib import Path
tree = Path(__file__).resolve().parent.parent
variant = (tree / "bench" / "variant").read_text().strip()
given = dict(a.split("=", 1) for a in sys.argv[2:] if "=" in a)
folder = Path(given["run_dir"])
of_contents = given.get("workload.num_prompts") == "150"
with Path(r"{log}").open("a") as log:
    log.write(f"{{variant}} {{-2 if of_contents else -1}} {{tree}}\\n")
if variant == "broken":
    sys.exit("error: key 'threads' is unknown; valid: none")
if of_contents:
    made = Path(r"{shards}") / (variant if (Path(r"{shards}") / variant).exists() else "plain")
    shutil.copytree(made / "contents", folder)
    sys.exit()
folder.mkdir()
info = json.loads(Path(r"{run_json}").read_text())
if variant == "future":
    info["schema_version"] = 999
if variant == "elsewhere":
    info["config_hashes"] = {{"another": "{hash}"}}
    info["config"] = {{"another": info["config"]["{point}"]}}
(folder / "run.json").write_text(json.dumps(info))
"""
_WORKER = """
import json, shutil, sys
from pathlib import Path
tree = Path(__file__).resolve().parent.parent
variant = (tree / "bench" / "variant").read_text().strip()
task = json.loads(sys.stdin.readline())
print(json.dumps({{"kind": "ready"}}), flush=True)
if variant == "faulty" and task["process_id"] == 3:
    print(json.dumps({{"kind": "failed", "reason": "exception", "detail": "ValueError: bad"}}))
    sys.exit()
if variant == "deadly":
    sys.exit("Segmentation fault")
for order in map(json.loads, sys.stdin):
    with Path(r"{log}").open("a") as log:
        log.write(f"{{variant}} {{task['process_id']}} {{tree}}\\n")
    name = f"{{order['config_hash']}}-p{{task['process_id']:03}}-r{{order['repeat']:03}}"
    source = Path(r"{shards}") / {{"faulty": "plain"}}.get(variant, variant) / "shards" / name
    shutil.copytree(source, Path(order["run_folder"]) / "shards" / name)
    print(json.dumps({{"kind": "done"}}), flush=True)
"""


@dataclass(frozen=True)
class Variant:
    """How the processes of a variant are: contents, times, and each process's own pace.

    Attributes:
        is_older: its tables do not tell of memory; the notes of its shards do.
    """

    config: SyntheticConfig = field(default_factory=lambda: BASE)
    timing: ChosenTiming = field(default_factory=lambda: TIMING)
    pace: Callable[[int], float] = lambda process_id: 1.0
    peak_rss_bytes: int = 2**20
    is_older: bool = False


def make_shards(folder: Path, variants: Mapping[str, Variant], num_processes: int) -> None:
    """The shards of every variant's processes, in a folder each, and its run of contents."""
    for name, variant in variants.items():
        make_run(
            folder / name / "contents",
            config=replace(variant.config, num_prompts=CONTENT_PROMPTS),
            point_id=POINT,
            precision="fp32",
            weights_sha256=_KNOBS["weights_sha256"],
        )
        tables = _tables(variant)
        for process_id in range(num_processes):
            shard = folder / name / "shards" / f"{HASH}-p{process_id:03}-r000"
            shard.mkdir(parents=True)
            note = _NOTE | {"peak_rss_bytes": variant.peak_rss_bytes}
            (shard / "shard.json").write_text(json.dumps(note))
            for table, rows in tables.items():
                times = [c for c in rows if c.endswith(("_s", "_ms")) and rows[c].dtype == float]
                own = rows.assign(process_id=process_id, **(rows[times] * variant.pace(process_id)))
                own.to_parquet(shard / f"{table}.parquet", index=False)


def _tables(variant: Variant) -> dict[str, pd.DataFrame]:
    """Of one process."""
    recording = make_recording(variant.config, decoding="diffusion")
    prompts = prompts_of(recording)
    session = SimulatedSession(recording, variant.timing, clock=VirtualClock())
    tables = tables_of(session, prompts, answers(session, prompts))
    keys = {"config_hash": HASH, "point_id": POINT, "host": "host1"}
    found = {name: tables[name].assign(**keys) for name in ("requests", "canvases", "steps")}
    if variant.is_older:
        return found
    place = {"process_id": 0, "repeat": 0, "peak_rss_bytes": variant.peak_rss_bytes}
    window = window_row([], 0.0, 1.0, gpu=False) | place
    return found | {"windows": frame("windows", [window], keys)}


@dataclass(frozen=True)
class Repository:
    """The repository, and the log of what ran: variant, process (-1 untimed, -2 contents), tree."""

    path: Path
    log: Path

    def commit(self, variant: str, **files: str) -> str:
        """A commit of another variant."""
        (self.path / "bench/variant").write_text(variant)
        for name, text in files.items():
            (self.path / name.replace("__", ".")).write_text(text)
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", variant)
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=n", "-c", "user.email=n@localhost", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", "-C", str(self.path), *who, *arguments],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    @property
    def ran(self) -> list[tuple[str, int, Path]]:
        """Variant, process and tree of every process, in order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        found = [line.split(" ", 2) for line in lines]
        return [(variant, int(number), Path(tree)) for variant, number, tree in found]

    @property
    def worktrees(self) -> int:
        """The checkout's own included."""
        return len(self.git("worktree", "list").splitlines())


def make_repository(folder: Path, shards: Path) -> Repository:
    """A repository with a commit of the variant `plain`."""
    path, log, run_json = folder / "repository", folder / "log", folder / "run.json"
    configs, hashes = {POINT: CONFIG}, {POINT: HASH}
    info = {
        "schema_version": SCHEMA_VERSION,
        "created": "2026-11-01T10:00:00+00:00",
        "git": {"commit": "1" * 40, "dirty": False},
        "host": "host1",
        "machine": MACHINE,
        "prompts_sha256": PROMPTS,
        "config": configs,
        "config_hashes": hashes,
        **preregister(configs, hashes, PROMPTS),
    }
    run_json.parent.mkdir(parents=True, exist_ok=True)
    run_json.write_text(json.dumps(info))
    for package in ("bench", "model", "configs"):
        (path / package).mkdir(parents=True)
        (path / package / "__init__.py").write_text("")
    told = {"run_json": run_json, "log": log, "shards": shards, "hash": HASH, "point": POINT}
    (path / "bench" / "cli.py").write_text(_CLI.format(**told))
    (path / "bench" / "worker.py").write_text(_WORKER.format(**told))
    (path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["numpy>=2"]\n')
    (path / ".gitignore").write_text("__pycache__/\n")
    found = Repository(path, log)
    subprocess.run(["git", "init", "--quiet", "-b", "main", str(path)], check=True)
    found.commit("plain")
    return found
