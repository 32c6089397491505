"""What all pages share: the templates, strict and escaped, and pictures that travel in the page."""

import base64
from pathlib import Path

import jinja2


def environment() -> jinja2.Environment:
    """The templates; a name that a template lacks is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def embedded(picture: Path) -> str:
    """A PNG as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
