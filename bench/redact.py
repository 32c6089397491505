"""What must never enter a result: home folders, user names, and values of secret variables."""

import contextlib
import getpass
import os
import re
from pathlib import Path

_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|PRIVATE|AUTH", re.I)
_SECRET_SHAPE = re.compile(r"\b(hf_|sk-|ghp_|gho_|github_pat_|xox[abp]-)[A-Za-z0-9_-]{8,}")
_SHORTEST = 6


def redact(text: str) -> str:
    """A text with home folders as "~" and secrets as "[redacted]"; nothing else is changed."""
    for value in _secrets():
        text = text.replace(value, "[redacted]")
    text = _SECRET_SHAPE.sub("[redacted]", text)
    for home in _homes():
        text = re.sub(re.escape(home) + r"(?=/|\b|$)", "~", text)
    return text


def _secrets() -> list[str]:
    """Values of variables whose name says that they are secret, longest first."""
    found = {
        value
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST
    }
    return sorted(found, key=len, reverse=True)


def _homes() -> list[str]:
    """This user's home folder under every name it goes by."""
    found = {os.environ.get("HOME", ""), str(Path.home())}
    with contextlib.suppress(OSError, KeyError):  # a user without a name
        found |= {f"/home/{getpass.getuser()}", f"/Users/{getpass.getuser()}"}
    return sorted({home for home in found if len(home) > 1}, key=len, reverse=True)
