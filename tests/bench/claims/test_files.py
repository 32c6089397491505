"""Claims as files: every shipped one holds, a bad one is one line, users bring theirs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.claims.claim import DEFINITIONS, FAMILIES, SPEEDS
from bench.claims.definitions import MEANING
from bench.claims.files import read_claim, shipped_claims, shipped_names
from bench.devices import DEVICES
from bench.metrics import RATES
from bench.tables import COLUMNS
from model import PRESETS

SHIPPED = {
    "card-1100": (1100, "content-dependent"),
    "card-tokens-per-forward": (15, "content-dependent"),
    "h100-ar-fp8": (197, "fixed work"),
    "h100-fp8": (1008, "fixed work"),
    "h100-mtp-fp8": (389, "fixed work"),
    "h100-over-ar": (5.1, "fixed work"),
    "h100-over-mtp": (2.6, "fixed work"),
    "h200-ar-fp8": (213, "fixed work"),
    "h200-fp8": (1288, "fixed work"),
    "h200-mtp-fp8": (429, "fixed work"),
    "h200-over-ar": (6.05, "fixed work"),
    "h200-over-mtp": (3.0, "fixed work"),
    "steps-per-canvas": (12, "content-dependent"),
}
MINE: dict[str, Any] = {
    "title": "my figure",
    "value": 100,
    "unit": "tok/s",
    "relation": "at_least",
    "metric": "delivered_tok_per_s",
    "conditions": {"decoding": "diffusion", "steps": "forced 16", "eos_policy": "ignore"},
    "source": {"title": "me", "date": "2026-11-26"},
}


def written(folder: Path, document: Any) -> str:
    path = folder / "mine.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return str(path)


def test_the_published_claims_ship() -> None:
    assert {c.name: (c.value, c.kind) for c in shipped_claims()} == SHIPPED


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_file_holds_what_a_verdict_needs(name: str) -> None:
    claim = read_claim(name)
    own = claim.conditions
    assert claim.metric in COLUMNS["points"]
    assert own.device in (None, *DEVICES)
    assert own.model in PRESETS
    assert PRESETS[own.model].decoding.value == own.decoding
    assert claim.open
    assert claim.source.date.startswith("2026")
    assert claim.source.where
    assert claim.relation == ("at_least" if claim.is_speed else claim.relation)
    if claim.over is not None:
        assert claim.relation == "equal"
        assert claim.over.published is not None
        assert claim.over.model == PRESETS[own.model].sibling
    if claim.kind == "fixed work":
        assert (own.prompt_tokens, own.max_new_tokens, own.batch_size) == (1024, 1024, 1)
        assert own.forced_steps == (16 if own.decoding == "diffusion" else None)


def test_ratios_are_those_of_the_published_rates() -> None:
    by_name = {claim.name: claim for claim in shipped_claims()}
    for device in ("h100", "h200"):
        for other in ("ar", "mtp"):
            ratio, below = by_name[f"{device}-over-{other}"], by_name[f"{device}-{other}-fp8"]
            assert ratio.over is not None
            assert ratio.over.published == below.value
            assert ratio.over.drafter == below.conditions.drafter
            rates = by_name[f"{device}-fp8"].value / below.value
            assert rates == pytest.approx(ratio.value, rel=0.005)


def test_definitions_are_columns_and_each_has_its_words() -> None:
    assert set(DEFINITIONS) == set(MEANING) <= set(COLUMNS["points"])
    assert set(RATES) < set(SPEEDS)
    assert len(DEFINITIONS) == sum(map(len, FAMILIES)) == len(set(DEFINITIONS))


def test_a_users_own_file_is_read_by_path_and_called_as_it(tmp_path: Path) -> None:
    claim = read_claim(written(tmp_path, MINE))
    assert (claim.name, claim.value, claim.tolerance, claim.kind) == (
        "mine",
        100,
        0.05,
        "fixed work",
    )
    assert claim.published == "100 tok/s"
    assert claim.conditions.forced_steps == 16


def changed(*path: str, **given: Any) -> dict[str, Any]:
    """MINE with keys set (None: taken out) at a place."""
    found: dict[str, Any] = {k: dict(v) if isinstance(v, dict) else v for k, v in MINE.items()}
    at = found
    for key in path:
        at = at[key]
    for key, value in given.items():
        at[key] = value
        if value is None:
            del at[key]
    return found


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (changed(value=None), "lacks 'value'"),
        (changed("source", date=None), "source lacks 'date'"),
        (changed("conditions", decoding=None), "conditions lacks 'decoding'"),
        (changed(tolerence=0.1), "key 'tolerence' is unknown; valid: title, value"),
        (changed(name="other"), "key 'name' is unknown"),
        (changed("conditions", device_name="h100"), "key 'device_name' is unknown"),
        (changed(value="fast"), "value is 'fast', which is not a number"),
        (changed(value=True), "value is True, which is not a number"),
        (changed("conditions", batch_size=1.5), "batch_size is 1.5, which is not a whole number"),
        (changed("conditions", batch_size=0), "batch_size is 0; must be >= 1"),
        (changed("source", date=2026), "date is 2026, which is not text"),
        (changed(metric="tok_per_s"), "metric 'tok_per_s' is unknown; valid: decode_tok_per_s_med"),
        (changed(relation="about"), "relation 'about' is unknown; valid: at_least, equal, between"),
        (changed(value=0), "value is 0; must be > 0"),
        (changed(value=float("inf")), "value is inf; must be > 0 and finite"),
        (changed(tolerance=1.0), "tolerance is 1.0; must be >= 0 and < 1"),
        (changed(min_requests=0), "min_requests is 0"),
        (changed(relation="between"), "upper belongs to relation between"),
        (changed(upper=120), "upper belongs to relation between"),
        (changed(relation="between", upper=90), "upper 90 is below value 100"),
        (changed("conditions", steps="16"), "steps are '16'; valid: forced N, up to N"),
        (changed("conditions", steps="forced 0"), "steps are 'forced 0'"),
        (changed("conditions", decoding="autoregressive"), "steps belong to decoding diffusion"),
        (changed("conditions", decoding="guess"), "decoding 'guess' is unknown"),
        (changed("conditions", eos_policy="never"), "eos_policy 'never' is unknown"),
        (changed(disclosed={"moon": "full"}), "disclosed: key 'moon' is unknown"),
        (changed(disclosed={"driver": 5}), "which is not a mapping of texts"),
        (changed(open="nothing"), "which is no list of texts"),
        (changed(source="me"), "source is 'me', which is no mapping"),
        (changed(over={"published": 3}), "over lacks 'decoding'"),
        ("just words", "holds no mapping"),
        ("a: [1", "is no YAML"),
        ("a: b: c", "is no YAML"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"^claim (\S*/)?mine") as error:
        read_claim(written(tmp_path, document))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_names_and_missing_files_say_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'h100' is unknown; valid: card-1100"):
        read_claim("h100")
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_claim(str(tmp_path / "none.yaml"))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is no text"):
        read_claim(str(tmp_path / "binary.yaml"))


@pytest.mark.parametrize(
    ("document", "depends"),
    [
        (MINE, False),
        (changed("conditions", steps="up to 16"), True),
        (changed("conditions", steps=None), True),
        (changed("conditions", eos_policy="stop"), True),
        (changed("conditions", eos_policy=None), True),
        (changed(metric="steps_per_canvas_median"), True),
        (changed(metric="accuracy"), True),
        (changed("conditions", drafter="mtp 4 drafts"), True),
        (changed("conditions", drafter="mtp 4 drafts, synthetic 80 % acceptance"), False),
        (changed(over={"decoding": "autoregressive", "drafter": "mtp"}), True),
        (changed(over={"decoding": "autoregressive"}), False),
    ],
)
def test_what_depends_on_content_is_derived(
    tmp_path: Path, document: dict[str, Any], depends: bool
) -> None:
    assert read_claim(written(tmp_path, document)).depends_on_content is depends
