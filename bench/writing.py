"""Files that a user asked for: what the system says against one is told in a line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block that writes to a file or a folder.

    Raises:
        ValueError: it cannot be written, and why.
    """
    try:
        yield
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror or error}") from error


def write_text(path: Path, text: str) -> None:
    """Writes a file in UTF-8.

    Raises:
        ValueError: it cannot be written.
    """
    with writing(path):
        path.write_text(text, encoding="utf-8")
