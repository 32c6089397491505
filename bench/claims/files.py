"""Claims as files: one YAML document each, every field's presence and type checked.

The files of `configs/claim` ship with the package; a user adds one by giving its path.
"""

from collections.abc import Mapping
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from bench.claims.claim import Claim, Conditions, Over, Source
from bench.yaml_files import parse_yaml, read_yaml

_SHIPPED = files("configs") / "claim"
_NAMES = {str: "text", int: "a whole number", float: "a number", NoneType: "null"}


def shipped_names() -> list[str]:
    """Names of the claims that come with the package."""
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in _SHIPPED.iterdir()
        if entry.name.endswith(".yaml")
    )


def shipped_claims() -> list[Claim]:
    """Every claim that comes with the package."""
    return [read_claim(name) for name in shipped_names()]


def read_claim(name_or_path: str) -> Claim:
    """A shipped claim by name, or one of a user's own by path.

    Raises:
        ValueError: no such claim, no YAML, or a field that is missing, unknown, there twice or of a
            wrong type.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        return _claim(path.stem, read_yaml(path, "claim"))
    if name_or_path not in shipped_names():
        raise ValueError(
            f"claim {name_or_path!r} is unknown; valid: {', '.join(shipped_names())}, "
            "or a .yaml file"
        )
    text = (_SHIPPED / f"{name_or_path}.yaml").read_text(encoding="utf-8")
    return _claim(name_or_path, parse_yaml(text, f"claim {name_or_path}"))


def _claim(name: str, document: Any) -> Claim:
    if not isinstance(document, dict):
        raise ValueError(f"claim {name} holds no mapping")
    parts: dict[str, Any] = {key: value for key, value in document.items() if value is not None}
    if "name" in parts:
        raise ValueError(f"claim {name}: key 'name' is unknown; a claim is called as its file")
    for key, kind in (("conditions", Conditions), ("source", Source), ("over", Over)):
        if key in parts:
            parts[key] = _build(kind, parts[key], f"claim {name}: {key}")
    if "open" in parts:
        parts["open"] = _texts(parts["open"], f"claim {name}: open")
    found = _build(Claim, parts | {"name": name}, f"claim {name}")
    assert isinstance(found, Claim)
    return found


def _build(kind: type, given: Any, where: str) -> Any:
    """A dataclass from a mapping."""
    if not isinstance(given, Mapping):
        raise ValueError(f"{where} is {given!r}, which is no mapping")
    known = {f.name: f for f in fields(kind) if f.name != "name"}
    unknown = sorted(set(map(str, given)) - set(known) - {"name"})
    if unknown:
        raise ValueError(f"{where}: key {unknown[0]!r} is unknown; valid: {', '.join(known)}")
    for name, field in known.items():
        if name in given and not _fits(given[name], field.type):
            raise ValueError(
                f"{where}: {name} is {given[name]!r}, which is not {_said(field.type)}"
            )
    try:
        return kind(**given)
    except TypeError as error:
        missing = str(error).rpartition(": ")[2].replace("' and '", "', '")
        raise ValueError(f"{where} lacks {missing}") from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _texts(given: Any, where: str) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise ValueError(f"{where} is {given!r}, which is no list of texts")
    return tuple(given)


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, UnionType):
        return any(_fits(value, each) for each in get_args(kind))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if get_origin(kind) is dict:
        texts = [*value, *value.values()] if isinstance(value, dict) else [None]
        return all(isinstance(text, str) for text in texts)
    return isinstance(value, get_origin(kind) or kind)


def _said(kind: Any) -> str:
    """A type as a writer of YAML knows it."""
    if isinstance(kind, UnionType):
        return " or ".join(_said(each) for each in get_args(kind))
    return _NAMES.get(kind, "a mapping of texts" if get_origin(kind) is dict else "a mapping")
