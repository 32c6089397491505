"""A wheel carries everything a run needs: configuration, templates, the tiny pair's weights."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench import open_run

ROOT = Path(__file__).parent.parent


def test_a_wheel_install_runs(tmp_path: Path) -> None:
    source, wheels, site = (tmp_path / name for name in ("source", "wheels", "site"))
    source.mkdir()
    for name in ("bench", "configs", "model"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(source)]
    subprocess.run(build, check=True, timeout=300)
    (wheel,) = wheels.glob("canvasbench-*.whl")
    assert wheel.stat().st_size < 12e6
    install = [*pip, "install", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, timeout=300)
    shutil.rmtree(source)

    program = (
        "import bench, model; from bench.cli import main;"
        f"assert bench.__file__.startswith({str(site)!r}), bench.__file__;"
        f"assert model.__file__.startswith({str(site)!r}); main()"
    )
    small = ["workload.num_prompts=2", "measure.num_repeats=1", "threads=1", "run_dir=run"]
    small += [f"measure.{each}_warmup_prompts=0" for each in ("min", "max")]
    small += ["measure.max_repairs=1", "measure.num_routing_prompts=1"]
    done = subprocess.run(
        [sys.executable, "-c", program, "run", "precision=bf16", *small],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(open_run(tmp_path / "run").points) == 2
    assert (tmp_path / "run" / "report.html").exists()
