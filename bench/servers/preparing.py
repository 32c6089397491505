"""What is asked and made before a server is started: its port, its version, its small files."""

import json
import os
import socket
import subprocess
from pathlib import Path

from bench.servers.engines import HOST, Start

_VERSION_S = 60.0


def make_files(begun: Start, scratch: Path) -> None:
    """The files and links that the server is given."""
    for name, content in begun.files.items():
        path = scratch / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    for name, target in begun.links.items():
        path = scratch / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)


def take_port(wanted: int) -> int:
    """A free port, or the wanted one.

    Raises:
        ValueError: somebody listens there, who would be taken for the server.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            raise ValueError(
                f"backend.launch.port is {wanted}, which cannot be had ({error.strerror}); valid: "
                "0 for a free one"
            ) from None
        return int(probe.getsockname()[1])


def installed_version(begun: Start) -> str | None:
    """Name and version of the engine as its environment has it; None for no package.

    Raises:
        ValueError: there is no such Python, or the engine is not installed there.
    """
    if not begun.packages:
        return None
    python = begun.arguments[0]
    names = json.dumps(begun.packages)
    code = (
        "import importlib.metadata as m, json, sys\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    try: print(name, m.version(name)); break\n"
        "    except m.PackageNotFoundError: pass\n"
    )
    try:
        told = subprocess.run(
            [python, "-c", code, names],
            capture_output=True,
            text=True,
            timeout=_VERSION_S,
            check=True,
            env={**os.environ, **begun.environment},
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        raise ValueError(
            f"backend.launch.executable {python} cannot be asked for its packages "
            f"({type(error).__name__}); valid: the Python of the engine's environment"
        ) from None
    if not told:
        raise ValueError(
            f"{begun.packages[0]} is not installed for {python}; valid: "
            "backend.launch.executable=PYTHON of an environment that has it"
        )
    return told
