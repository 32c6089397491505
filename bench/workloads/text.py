"""Text by domain: the project's own prompts, read from `prompts/`, one file a domain.

What `correct` means: maths, the number on the last line `Answer: ...` is the right one; structured,
keys, types and the values that the prompt determines are as asked (`bench.workloads.structured`).
Code is checked for its form only (Python blocks parse; nothing is run) and prose and chat not at
all: their `correct` is None, so that they enter no accuracy.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from importlib.resources import files
from itertools import cycle, islice
from typing import Any

from bench.workloads.answers import final_number, has_final_number, parses_as_python
from bench.workloads.prompt import Prompt, Workload
from bench.workloads.structured import StructuredCheck

DOMAINS = ("code", "maths", "prose", "structured", "chat")


def text_workload(domains: str, num_prompts: int) -> Workload:
    """The first prompts of every domain, domains in turn, so that each has an equal share.

    Args:
        domains: names joined by commas, or "all".

    Raises:
        ValueError: an unknown domain, one named twice, or more prompts than there are.
    """
    chosen = _chosen(domains)
    stored = {domain: entries(domain) for domain in chosen}
    shares = {d: len(range(i, num_prompts, len(chosen))) for i, d in enumerate(chosen)}
    short = next((d for d in chosen if shares[d] > len(stored[d])), None)
    if short is not None:
        most = len(chosen) * min(len(found) for found in stored.values())
        raise ValueError(
            f"workload.num_prompts is {num_prompts}; {short} has {len(stored[short])} prompts, so "
            f"workload.domains={domains} has at most {most}"
        )
    asked = [
        (domain, stored[domain][index // len(chosen)])
        for index, domain in enumerate(islice(cycle(chosen), num_prompts))
    ]
    prompts = tuple(_prompt(i, domain, entry) for i, (domain, entry) in enumerate(asked))
    told = json.dumps([entry for _, entry in asked], sort_keys=True)
    return Workload("text", prompts, hashlib.sha256(told.encode()).hexdigest())


@cache
def entries(domain: str) -> tuple[Mapping[str, Any], ...]:
    """A domain's prompts as its file tells them, each with what its domain shares.

    That is a closing instruction, if any, and `checked`: what of an answer is checked.
    """
    path = files("bench.workloads") / "prompts" / f"{domain}.toml"
    told = tomllib.loads(path.read_text(encoding="utf-8"))
    closing = f"\n\n{told['instruction']}" if "instruction" in told else ""
    shared = {"checked": told["checked"]}
    return tuple(e | shared | {"text": e["text"].strip() + closing} for e in told["prompt"])


def _chosen(domains: str) -> Sequence[str]:
    if domains == "all":
        return DOMAINS
    names = [name.strip() for name in domains.split(",")]
    for name in names:
        if name not in DOMAINS:
            raise ValueError(
                f"workload.domains has {name!r}; valid: all, or some of {', '.join(DOMAINS)}"
            )
    if len(set(names)) != len(names):
        raise ValueError(f"workload.domains is {domains!r}, which names a domain twice")
    return names


def _prompt(index: int, domain: str, entry: Mapping[str, Any]) -> Prompt:
    text, checked = entry["text"], entry["checked"]
    if checked == "answer":
        right = Fraction(entry["answer"])
        return Prompt(
            index,
            domain,
            text,
            f"Answer: {entry['answer']}",
            lambda text: final_number(text) == right,
            form=has_final_number,
        )
    if checked == "shape and values":
        check = StructuredCheck(
            entry["format"], json.loads(entry["shape"]), entry.get("values", {})
        )
        return Prompt(index, domain, text, entry["right"], check.is_correct, form=check.has_form)
    has_form = checked == "form" and entry["language"] == "python"
    return Prompt(index, domain, text, None, form=parses_as_python if has_form else None)
