"""A checkpoint's chat template: messages become the text that the model was trained to answer.

Rendered as `transformers` does: Jinja's immutable sandbox with trimmed blocks, loop controls, a
`tojson` that leaves text alone, `raise_exception`, and the special tokens by name. What depends on
the day (`strftime_now`) is left out, so that a prompt is the same on every day.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

Message = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A template with what it is rendered with.

    Attributes:
        special_tokens: bos_token, eos_token and the like.
        thinking: whether the model is told to think before it answers.
    """

    folder: Path
    source: str
    special_tokens: Mapping[str, str]
    thinking: bool

    @classmethod
    def read(cls, folder: Path, *, thinking: bool) -> "ChatTemplate":
        """The template of a checkpoint folder: chat_template.jinja, else tokenizer_config.json's.

        Raises:
            ValueError: the folder has none, or one that is no template.
        """
        if not folder.is_dir():
            raise ValueError(f"checkpoint folder {folder} does not exist")
        told = _tokenizer_config(folder)
        path = folder / "chat_template.jinja"
        source = path.read_text(encoding="utf-8") if path.exists() else _named(told)
        if source is None:
            raise ValueError(
                f"{folder} has no chat template: neither chat_template.jinja nor a chat_template "
                "in tokenizer_config.json"
            )
        tokens = {name: _token(told[name]) for name in told if name.endswith("_token")}
        special = {name: token for name, token in tokens.items() if token is not None}
        made = cls(folder, source, special, thinking)
        made._template()
        return made

    @property
    def sha256(self) -> str:
        """Of the template alone: released ones have been revised with the weights unchanged."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    def render(self, messages: Sequence[Message]) -> str:
        """The text of a conversation, up to where the model's next turn begins.

        Raises:
            ValueError: the template refuses the messages, or names something that is not there.
        """
        try:
            return self._template().render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=True,
                enable_thinking=self.thinking,
                **self.special_tokens,
            )
        except TemplateError as error:
            raise ValueError(f"the chat template of {self.folder} fails: {error}") from error

    def _template(self) -> Template:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        try:
            return environment.from_string(self.source)
        except TemplateError as error:
            raise ValueError(f"the chat template of {self.folder} is none: {error}") from error


def encode_prompt(
    text: str, tokenizer: Tokenizer, template: ChatTemplate | None, bos_token_id: int
) -> list[int]:
    """Token ids of a prompt: as the one message of a conversation, or bare after a begin of text.

    The tokenizer adds nothing of its own: a template writes its special tokens itself.
    """
    if template is None:
        return [bos_token_id, *tokenizer.encode(text, add_special_tokens=False).ids]
    rendered = template.render([{"role": "user", "content": text}])
    return list(tokenizer.encode(rendered, add_special_tokens=False).ids)


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    if not path.exists():
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(told, dict):
        raise ValueError(f"{path} holds no JSON object")
    return told


def _named(told: Mapping[str, Any]) -> str | None:
    """The template in a tokenizer_config.json: a text, or a list of named ones."""
    found = told.get("chat_template")
    if isinstance(found, list):
        found = {entry["name"]: entry["template"] for entry in found}.get("default")
    return found if isinstance(found, str) else None


def _token(told: Any) -> str | None:
    """A special token as a text, or as an object that holds it."""
    text = told.get("content") if isinstance(told, dict) else told
    return text if isinstance(text, str) else None


def _tojson(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)
