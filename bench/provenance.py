"""Where and with what a run was made: an allow-list of facts, none of them personal.

No host name, user, path of a home folder, environment variable or token is ever read into a result;
free text (the command line, a log's tail) passes through `bench.redact`.
"""

import contextlib
import hashlib
import os
import platform
import re
import sys
import uuid
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from bench.code_state import git, is_dirty
from bench.redact import redact

_ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("canvasbench", "torch", "numpy", "pandas", "tokenizers", "safetensors")


def git_state(root: Path = _ROOT) -> dict[str, Any]:
    """Commit and dirty flag of the checkout this package runs from.

    Dirty is a change to its code (`bench.code_state`); results and notes do not count.
    An exported tree (`git archive`) still names its commit but not whether it was changed since;
    outside of both, and installed into a repository of something else, everything is None.
    """
    if not (root / ".git").exists():
        return {"commit": _archived_commit(root), "dirty": None}
    ours = git(root, "ls-files", "--error-unmatch", "--", "bench/provenance.py")
    commit = git(root, "rev-parse", "HEAD") if ours else None
    return {"commit": commit, "dirty": is_dirty(root) if commit else None}


def machine(device: str, threads: int) -> dict[str, Any]:
    """Processor, memory, device and versions."""
    import torch

    cuda = device.startswith("cuda")
    properties = torch.cuda.get_device_properties(device) if cuda else None
    return computer(threads) | {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": properties.name if properties else "cpu",
        "driver": _driver() if cuda else None,
        "cuda": torch.version.cuda if cuda else None,
        "torch": torch.__version__,
    }


def computer(threads: int) -> dict[str, Any]:
    """The same of a machine on which torch computes nothing, and need not be imported."""
    return {
        "cpu": _cpu_name(),
        "cpu_capability": None,
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_bytes": psutil.virtual_memory().total,
        "device": "cpu",
        "driver": None,
        "cuda": None,
        "torch": None,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def host() -> str:
    """Eight hexadecimal digits that name this machine and tell nothing else about it."""
    known = f"{platform.node()}/{_hardware_id()}/{_cpu_name()}"
    return hashlib.sha256(known.encode()).hexdigest()[:8]


def _hardware_id() -> str:
    """A network card's address, or what the system calls itself where there is none."""
    node = uuid.getnode()
    if not node >> 40 & 1:  # Python sets this bit where it drew the number at random
        return str(node)
    for path in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        with contextlib.suppress(OSError):
            return Path(path).read_text().strip()
    return ""


def packages() -> dict[str, str | None]:
    """Versions of what a result depends on."""
    return {name: _version(name) for name in _PACKAGES}


def command_line() -> str:
    """The arguments of this run, without the program's path."""
    return redact(" ".join(["canvasbench", *sys.argv[1:]]))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _archived_commit(root: Path) -> str | None:
    try:
        text = (root / ".git_archival.txt").read_text()
    except OSError:
        return None
    found = re.search(r"^node: ([0-9a-f]{40})$", text, re.MULTILINE)
    return found.group(1) if found else None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _driver() -> str | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except Exception:  # no module, no driver, or one that does not tell
        return None
