"""What all pages share: strict, escaped templates; pictures and scripts that travel in a page."""

import base64
import hashlib
from pathlib import Path

import jinja2

_OWN = Path(__file__).parent / "templates"


def environment(*folders: Path) -> jinja2.Environment:
    """The templates of `folders`, then the shared ones; a name a template lacks is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, _OWN]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def embedded(picture: Path) -> str:
    """A PNG as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def script_source(script: str) -> str:
    """What a page's policy must allow for this script, and no other, to run."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"
