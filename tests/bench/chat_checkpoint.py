"""A checkpoint folder of a small model with random weights, a tokenizer and a chat template."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from bench.workloads.documents import GENRES, document_lines
from bench.workloads.text import DOMAINS, entries
from model.checkpoint import save
from model.config import preset
from model.config_json import write_config
from model.diffusion import DiffusionTransformer
from model.dummy import fill_with_random
from model.ops import make_ops
from model.transformer import Transformer

SPECIAL = ["<pad>", "<eos>", "<bos>", "<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think|>"]
VOCAB_SIZE = 1024
TEMPLATE = """\
{%- macro without_thoughts(text) -%}
    {{- text.split('<channel|>')[-1] | trim -}}
{%- endmacro -%}
{%- set ns = namespace(turns=0) -%}
{{- bos_token }}
{#- A model that is to think is told so in a turn of its own. -#}
{%- if enable_thinking is defined and enable_thinking %}
    {{- '<|turn>system\\n<|think|><turn|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
    {{- '<|turn>' + role + '\\n' }}
    {%- if role == 'model' %}
        {{- without_thoughts(message['content']) }}
    {%- elif not message['tool_calls'] %}
        {{- message['content'] | trim }}
    {%- endif %}
    {{- '<turn|>\\n' }}
    {%- set ns.turns = ns.turns + 1 %}
{%- endfor %}
{%- if add_generation_prompt and ns.turns %}
    {{- '<|turn>model\\n' }}
    {%- if not enable_thinking | default(false) %}
        {{- '<|channel>thought\\n<channel|>' }}
    {%- endif %}
{%- endif %}
"""
"""Of our own, with what the released ones are made of: macros, namespaces, an empty thought."""


def make_tokenizer() -> Tokenizer:
    """Byte-level BPE; its post-processor adds a begin of text by itself, as Gemma's does."""
    return Tokenizer.from_str(_trained())


@cache
def _trained() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 2)]
    )
    return str(tokenizer.to_str())


def _texts() -> Iterator[str]:
    for domain in DOMAINS:
        yield from (entry["text"] for entry in entries(domain))
    for genre in GENRES:
        _, lines = document_lines(genre, "tokenizer")
        yield from (line for line, _ in zip(lines, range(100), strict=False))


def write_checkpoint(folder: Path, decoding: str = "diffusion") -> Path:
    """A folder as `canvasbench run model=FOLDER` takes it."""
    folder.mkdir()
    config = replace(
        preset(f"tiny-{decoding}"),
        vocab_size=VOCAB_SIZE,
        layer_types=("sliding", "full"),
        max_positions=4096,
        eos_token_ids=(1, SPECIAL.index("<turn|>")),
    )
    kind = DiffusionTransformer if decoding == "diffusion" else Transformer
    made = kind(config, make_ops("torch"))
    fill_with_random(made, 0)
    save(made, config, folder / "model.safetensors", torch.float32)
    write_config(config, folder)
    make_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    names = {"bos_token": "<bos>", "eos_token": {"content": "<eos>"}, "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return folder
