"""The processor's readings, on this machine and from planted kernel files."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from bench.telemetry import Sample
from bench.telemetry.cpu import CpuReader
from bench.telemetry.processes import OwnTree
from bench.telemetry.reading import Rationed, attempt


def reader(sys_folder: Path) -> CpuReader:
    return CpuReader(OwnTree(os.getpid()), sys_folder)


def zone(folder: Path, name: str, uj: int) -> Path:
    path = folder / "class/powercap" / name
    path.mkdir(parents=True, exist_ok=True)
    (path / "energy_uj").write_text(f"{uj}\n")
    (path / "max_energy_range_uj").write_text("1000000\n")
    return path


def test_this_machine_is_read(tmp_path: Path) -> None:
    cpu = reader(tmp_path)
    sum(i * i for i in range(3_000_000))  # some ticks of 10 ms
    sample = Sample(at_s=0.0, **cpu.read())
    assert sample.cpu_count == psutil.cpu_count()
    assert sample.own_cpu_s is not None
    assert sample.own_cpu_s > 0.02
    assert sample.cpu_busy_s is not None
    assert sample.cpu_busy_s > 0
    assert sample.memory_available_bytes is not None
    assert 0 < sample.memory_available_bytes < psutil.virtual_memory().total
    assert sample.swap_used_bytes is not None
    assert (sample.cpu_energy_j, sample.cpu_throttle_events) == (None, None)


def test_rapl_packages_add_up_and_wrap(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", 900_000)
    zone(tmp_path, "intel-rapl:1", 0)
    zone(tmp_path, "intel-rapl:0:0", 5)  # a part of package 0, not to be counted again
    cpu = reader(tmp_path)
    assert cpu.read()["cpu_energy_j"] == 0
    zone(tmp_path, "intel-rapl:0", 100_000)
    zone(tmp_path, "intel-rapl:1", 50_000)
    zone(tmp_path, "intel-rapl:0:0", 400_000)
    assert cpu.read()["cpu_energy_j"] == 0.25


def test_rapl_that_stops_being_readable_is_unknown(tmp_path: Path) -> None:
    path = zone(tmp_path, "intel-rapl:0", 5)
    cpu = reader(tmp_path)
    (path / "energy_uj").unlink()
    assert cpu.read()["cpu_energy_j"] is None
    assert reader(tmp_path).read()["cpu_energy_j"] is None


def test_thermal_counters_add_up(tmp_path: Path) -> None:
    for core, count in enumerate((2, 3)):
        folder = tmp_path / f"devices/system/cpu/cpu{core}/thermal_throttle"
        folder.mkdir(parents=True)
        (folder / "core_throttle_count").write_text(f"{count}\n")
    assert reader(tmp_path).read()["cpu_throttle_events"] == 5


def test_a_childs_work_is_own_and_a_strangers_is_not() -> None:
    """One child burns processor time; the tree rooted there sees it, its sibling's does not."""
    burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    burner = subprocess.Popen([sys.executable, "-c", burn])
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        ours, theirs = OwnTree(os.getpid()), OwnTree(sleeper.pid)
        before_s, others_before_s = ours.cpu_s(), theirs.cpu_s()
        burner.wait()
        assert ours.cpu_s() - before_s > 0.15
        assert theirs.cpu_s() - others_before_s < 0.15
        assert ours.owns(sleeper.pid)
        assert theirs.owns(sleeper.pid)
        assert not theirs.owns(os.getpid())
        assert not ours.owns(1)
    finally:
        sleeper.kill()
        sleeper.wait()
    assert not ours.owns(sleeper.pid)


def test_a_living_childs_work_counts() -> None:
    burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    code = f"{burn}\nprint(flush=True)\ntime.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        alone_s = sum(psutil.Process().cpu_times()[:4])
        assert OwnTree(os.getpid()).cpu_s() - alone_s > 0.2
    finally:
        child.kill()
        child.communicate()


def test_a_tree_without_its_root_reads_nothing() -> None:
    tree = OwnTree(max(psutil.pids()) + 100_000)
    assert tree.cpu_s() == 0
    assert not tree.owns(os.getpid())


def test_a_dear_reading_is_rationed() -> None:
    now = [0.0]
    taken = []

    def read() -> int:
        taken.append(now[0])
        now[0] += 0.01  # 10 ms: at 0.2 % of the time, one in 5 s
        return len(taken)

    dear = Rationed(read, clock=lambda: now[0])
    values = []
    for _ in range(100):
        values.append(dear())
        now[0] += 0.1
    assert len(taken) == 2
    assert taken[1] - taken[0] >= 5
    assert values[0] == 1
    assert values[-1] == 2


def test_a_cheap_reading_keeps_its_least_age() -> None:
    now = [0.0]
    cheap = Rationed(lambda: now[0], min_age_s=1.0, clock=lambda: now[0])
    assert cheap() == 0.0
    now[0] = 0.9
    assert cheap() == 0.0
    now[0] = 1.0
    assert cheap() == 1.0


def test_what_fails_is_none() -> None:
    assert attempt(lambda: 1 // 0) is None
    assert attempt(lambda: 0) == 0
    assert Rationed(lambda: {}["absent"])() is None


def test_reading_is_cheap() -> None:
    """Generous, for a machine that is shared: the figure is in each sample (`sampler_cpu_s`)."""
    cpu = CpuReader(OwnTree(os.getpid()))
    begin_s = time.process_time()
    for _ in range(20):
        cpu.read()
    assert (time.process_time() - begin_s) / 20 < 0.005
