"""Live slowdowns: a clone with a commit that slows it on purpose, against its unmodified parent.

    python -m tests.bench.ab.live forward --runs 10 --into FILE.jsonl    10 % more a denoise forward
    python -m tests.bench.ab.live steps --runs 10 --into FILE.jsonl      one extra step in about ten

Each run is a `canvasbench ab` of about three minutes on two quiet cores. It adds a line of JSON to
FILE: what was done, the exit code, every speed's verdict, and the causes in order. The exit code is
0 where every run was caught (exit 1) and its first cause was the right one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Slowdown:
    """A change of the code.

    Attributes:
        file: code is added to its end.
        metric: that must be a REGRESSION.
        cause: first name in the attribution.
    """

    file: str
    code: str
    metric: str
    cause: str


SLOWDOWNS = {
    "forward": Slowdown(
        "model/sampling/block_diffusion.py",
        """

def _slowed(step):
    import time

    def whole(self, *given):
        begin = time.perf_counter()
        found = step(self, *given)
        end = begin + 1.1 * (time.perf_counter() - begin)
        while time.perf_counter() < end:
            pass
        return found

    return whole


Denoiser.step = _slowed(Denoiser.step)
""",
        "step_ms",
        "denoise_s",
    ),
    "steps": Slowdown(
        "model/sampling/policies.py",
        '''

def _later(stop):
    def hesitating(self, unchanged_steps_B, entropy_BL):
        """Goes on at a quarter of the stops; which ones depends on the content alone."""
        bits_B = entropy_BL.float().mean(-1).view(torch.int32)
        return stop(self, unchanged_steps_B, entropy_BL) & (bits_B % 4 != 0)

    return hesitating


StableAndConfident.__call__ = _later(StableAndConfident.__call__)
''',
        "steps_per_canvas",
        "denoise_forwards",
    ),
}


def slowed_clone(folder: Path, kind: str) -> Path:
    """A clone of this repository whose last commit is the slowdown."""
    change = SLOWDOWNS[kind]
    clone = folder / "clone"
    _git(folder, "clone", "--quiet", str(_ROOT), str(clone))
    file = clone / change.file
    file.write_text(file.read_text() + change.code)
    _git(clone, "add", change.file)
    who = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    _git(clone, *who, "commit", "--quiet", "-m", f"Slower on purpose: {kind}")
    return clone


def run_once(kind: str, *arguments: str) -> dict[str, Any]:
    """One `canvasbench ab` of this checkout's harness on a slowed clone."""
    change = SLOWDOWNS[kind]
    with tempfile.TemporaryDirectory(prefix="canvasbench-live-") as folder:
        clone = slowed_clone(Path(folder), kind)
        begun = datetime.now(UTC).isoformat(timespec="seconds")
        done = subprocess.run(
            [
                sys.executable,
                *("-m", "bench.cli", "ab", "--base", "HEAD~1", "--json"),
                *("--out", str(Path(folder) / "out")),
                *arguments,
            ],
            cwd=clone,
            env={**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONSAFEPATH": "1"},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        found = json.loads(done.stdout) if done.stdout else {"points": []}
    points = found["points"]
    causes = points[0]["attribution"]["causes"] if points else []
    metrics = points[0]["metrics"] if points else {}
    told = {
        name: {key: own[key] for key in ("status", "effect", "interval", "n", "detectable")}
        for name, own in metrics.items()
    }
    caught = done.returncode == 1 and told.get(change.metric, {}).get("status") == "REGRESSION"
    return {
        "kind": kind,
        "started": begun,
        "commit": _git(_ROOT, "rev-parse", "HEAD"),
        "exit_code": done.returncode,
        "caught": caught,
        "attributed": causes[:1] == [change.cause],
        "causes": causes,
        "pairs": found.get("ab", {}).get("pairs"),
        "wall_s": found.get("ab", {}).get("wall_s"),
        "metrics": told,
    }


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def main() -> None:
    """The script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=SLOWDOWNS)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--into", type=Path, required=True, help="A file of JSON lines.")
    given, further = parser.parse_known_args()  # of canvasbench ab
    good = True
    for _ in range(given.runs):
        line = run_once(given.kind, *further)
        good = good and line["caught"] and line["attributed"]
        with given.into.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{line['kind']}: exit {line['exit_code']}, causes {line['causes']}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
