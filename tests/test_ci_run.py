"""`.ci/run` with stubs for what it calls: a browser where it may, the tests in any case."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / ".ci" / "run"
_TOOLS = ("bash", "dirname", "env", "timeout")


@dataclass(frozen=True)
class Machine:
    """A folder with a copy of the script and the only commands it will find."""

    folder: Path

    def has(self, name: str, says: str = "", exits: int = 0) -> None:
        stub = self.folder / "bin" / name
        told = f'echo "{name} $*" >> {self.folder}/called' if not says else f"echo {says}"
        stub.write_text(f"#!{shutil.which('bash')}\n{told}\nexit {exits}\n")
        stub.chmod(0o755)

    def run(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.folder / ".ci" / "run"],
            env={**os.environ, "PATH": str(self.folder / "bin")},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def called(self) -> list[str]:
        return (self.folder / "called").read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    for folder in ("bin", ".ci"):
        (tmp_path / folder).mkdir()
    shutil.copy(SCRIPT, tmp_path / ".ci" / "run")
    for name in _TOOLS:
        found = shutil.which(name)
        assert found is not None
        (tmp_path / "bin" / name).symlink_to(found)
    made = Machine(tmp_path)
    made.has("make")
    made.has("id", says="0")
    return made


def test_with_a_browser_it_runs_the_tests_alone(machine: Machine) -> None:
    machine.has("google-chrome")
    machine.has("apt-get")
    assert machine.run().returncode == 0
    assert machine.called == ["make test"]


def test_root_installs_one_first(machine: Machine) -> None:
    machine.has("apt-get")
    assert machine.run().returncode == 0
    update, install, test = machine.called
    assert update.startswith("apt-get update")
    assert install.startswith("apt-get install -y")
    assert "--no-install-recommends chromium" in install
    assert test == "make test"


def test_others_ask_sudo_without_a_password(machine: Machine) -> None:
    machine.has("id", says="1000")
    machine.has("apt-get")
    machine.has("sudo")
    assert machine.run().returncode == 0
    assert machine.called[0].startswith("sudo -n timeout")
    assert machine.called[-1] == "make test"


@pytest.mark.parametrize("installer", ["fails", "missing"])
def test_without_a_browser_the_tests_run_and_that_is_said(machine: Machine, installer: str) -> None:
    if installer == "fails":
        machine.has("apt-get", exits=100)
    done = machine.run()
    assert done.returncode == 0
    assert "Chromium could not be installed" in done.stderr
    assert machine.called[-1] == "make test"


def test_failing_tests_fail_the_run(machine: Machine) -> None:
    machine.has("chromium")
    machine.has("make", exits=2)
    assert machine.run().returncode == 2
