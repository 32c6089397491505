"""Histories on disk: only ever added to, read back whole, and clear about what is wrong."""

import json
from pathlib import Path

import pytest

from bench.comparison import digest
from bench.history import add_run, annotate, read_history, read_series
from bench.history.entry import Entry, entry_of
from tests.bench.comparison.made import COMMIT, make_run, speeds
from tests.bench.history.made import METRIC, history_of, noisy


def test_a_run_is_one_line_that_reads_back(made_run: Path, tmp_path: Path) -> None:
    path = add_run(made_run, tmp_path / "new" / "history")
    assert len(path.read_text().splitlines()) == 1
    (entry,) = read_history(path.parent).entries
    assert entry == entry_of(made_run)
    (point,) = entry.points
    assert (entry.commit, entry.host, point.num_processes) == (COMMIT, "host1", 8)
    assert point.fingerprint == digest(point.facts)
    assert {METRIC, "step_ms", "accuracy"} <= set(point.figures)
    assert "decode_ms" not in point.figures
    figure = point.figures[METRIC]
    assert figure.lo is not None
    assert figure.hi is not None
    assert figure.lo < figure.value < figure.hi


def test_nothing_is_rewritten(made_run: Path, tmp_path: Path) -> None:
    path = add_run(made_run, tmp_path)
    before = path.read_bytes(), path.stat().st_mtime_ns
    with pytest.raises(ValueError, match="is in the history already"):
        add_run(made_run, tmp_path)
    annotate(tmp_path, path.stem, "a new power supply")
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert not [left for left in tmp_path.iterdir() if left.suffix == ".part"]


def test_entries_come_in_order_of_time_whatever_was_added_first(
    entry: Entry, tmp_path: Path
) -> None:
    made = history_of(tmp_path, entry, [3.0, 1.0, 2.0])
    assert [each.name for each in read_history(tmp_path).entries] == [each.name for each in made]
    (series,) = read_series(tmp_path, METRIC)
    assert [seen.value for seen in series.observations] == [3.0, 1.0, 2.0]


def test_a_merge_of_two_histories_is_their_union(entry: Entry, tmp_path: Path) -> None:
    history_of(tmp_path / "a", entry, [1.0, 2.0])
    history_of(tmp_path / "b", entry, [1.0, 2.0, 3.0])
    for path in (tmp_path / "b").iterdir():
        (tmp_path / "a" / path.name).write_bytes(path.read_bytes())
    assert len(read_history(tmp_path / "a").entries) == 3


def test_an_invalid_point_is_kept_and_in_no_series(tmp_path: Path) -> None:
    make_run(tmp_path / "run", factors=speeds(1), validity="invalid", validity_reason="throttled")
    add_run(tmp_path / "run", tmp_path / "history")
    assert read_history(tmp_path / "history").entries[0].points[0].validity == "invalid"
    with pytest.raises(ValueError, match=r"no valid point of .* has delivered_tok_per_s"):
        read_series(tmp_path / "history", METRIC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is damaged or no file of a history"),
        ('{"history_version": 1, "created": "2026', "is damaged or no file of a history"),
        ("<<<<<<< HEAD\n{}\n", "is damaged or no file of a history"),
        ('{"history_version": 1}', "is damaged: 'created'"),
        ('{"history_version": 7}', "has history version 7; this canvasbench reads up to 1"),
        ("[1]", "is damaged or no file of a history"),
    ],
)
def test_a_damaged_file_is_named(entry: Entry, tmp_path: Path, text: str, said: str) -> None:
    made = history_of(tmp_path, entry, [1.0, 2.0])
    (tmp_path / f"{made[1].name}.json").write_text(text)
    with pytest.raises(ValueError, match=said) as error:
        read_history(tmp_path)
    assert made[1].name in str(error.value)


def test_other_files_do_not_matter(entry: Entry, tmp_path: Path) -> None:
    history_of(tmp_path, entry, [1.0])
    (tmp_path / "README.md").write_text("what this is")
    (tmp_path / "bencher.json").write_text("{}")
    assert len(read_history(tmp_path).entries) == 1


def test_no_history_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a folder; `canvasbench history add` makes one"):
        read_history(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no run"):
        read_history(tmp_path)


def test_what_is_no_folder_is_said(entry: Entry, made_run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"\.json cannot be written: "):
            add_run(made_run, folder)


def test_a_run_without_a_date_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "run", info={"created": None})
    with pytest.raises(ValueError, match="a history needs a date"):
        add_run(tmp_path / "run", tmp_path / "history")
    assert not (tmp_path / "history").exists()


def test_an_annotation_makes_a_shift_known(entry: Entry, tmp_path: Path) -> None:
    made = history_of(tmp_path, entry, noisy([100.0] * 10 + [90.0] * 10))
    assert len(read_series(tmp_path, METRIC)[0].changes) == 1
    annotate(tmp_path, made[10].name, "another sampler", metric=METRIC)
    (series,) = read_series(tmp_path, METRIC)
    assert series.changes == ()
    assert series.observations[10].known == ("another sampler",)
    (other,) = read_series(tmp_path, "step_ms")
    assert other.observations[10].known == ()


def test_annotations_name_what_is_there(entry: Entry, tmp_path: Path) -> None:
    made = history_of(tmp_path, entry, [1.0, 2.0])
    for wrong, said in (
        ({"entry": "2025"}, "no run of"),
        ({"entry": "2026"}, "several runs of"),
        ({"point": "x"}, "point 'x' is not in"),
        ({"metric": "x"}, "metric 'x' is unknown"),
        ({"text": " "}, "needs a text"),
    ):
        given = {"entry": made[0].name, "text": "known", "point": None, "metric": None} | wrong
        with pytest.raises(ValueError, match=said):
            annotate(tmp_path, **given)  # type: ignore[arg-type]
    assert len(list(tmp_path.iterdir())) == 2


def test_an_annotation_is_a_line_of_its_own(entry: Entry, tmp_path: Path) -> None:
    made = history_of(tmp_path, entry, [1.0])
    path = annotate(tmp_path, made[0].name[:12], "known", point="diffusion-bf16")
    found = json.loads(path.read_text())
    assert (found["entry"], found["text"]) == (made[0].name, "known")
    assert read_history(tmp_path).annotations[0].point == "diffusion-bf16"
