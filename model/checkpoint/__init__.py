"""Checkpoints in the released layouts: a folder with config.json and safetensors.

One table of names (`names`) serves both siblings, both precisions and both directions. Only
safetensors are ever opened, one tensor at a time (`reader`); a model on the meta device is filled
part by part where it is to live (`fill`).
"""

from model.checkpoint.fill import CheckedCheckpoint, load_into
from model.checkpoint.names import Entry, Layout, Rule, entries, rules, scale_name, text_prefixes
from model.checkpoint.reader import CheckpointReader
from model.checkpoint.save import save

__all__ = [
    "CheckedCheckpoint",
    "CheckpointReader",
    "Entry",
    "Layout",
    "Rule",
    "entries",
    "load_into",
    "rules",
    "save",
    "scale_name",
    "text_prefixes",
]
