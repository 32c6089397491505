"""Events become records: tokens, steps, ledger; and the repair test corrupts as it says."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from bench.backends import Delivery, Forward, Identity, RowBlock
from bench.repair import run_repairs
from bench.requests import run_batch
from bench.thought import Thought
from bench.workloads import Prompt
from tests.bench.scripted import EOS, LENGTH, ScriptedSession

FIRST = [10, 11, 12, 13, 14, 15, 16, 17]
SECOND = [18, 19, EOS, 0, 0, 0, 0, 0]
ANSWER = "abcdefghij"


def prompt(request_id: int = 0, answer: str = ANSWER) -> Prompt:
    return Prompt(request_id, "letters", "xyz", answer, answer.__eq__)


def test_a_request_of_two_canvases() -> None:
    session = ScriptedSession([(FIRST, 3), (SECOND, 2)])
    (record,) = run_batch(session, [prompt(7)], process_id=4, repeat=2)
    assert (record.request_id, record.process_id, record.repeat) == (7, 4, 2)
    assert record.text == ANSWER
    assert record.correct is True
    assert record.prompt_tokens == 4
    assert record.delivered_tokens == 11
    assert record.finish_reason == "eos"
    # Events: prefill, 3 steps, delivery, commit, 2 steps, delivery: one second each.
    assert record.prefill_s == 1.0
    assert record.deliveries == [(5.0, 8), (9.0, 3)]
    assert record.wall_s == 9.0
    phases = [(step.phase, step.canvas_index, step.step, step.device_ms) for step in record.steps]
    assert phases == [
        ("prefill", 0, 1, 1000.0),
        ("denoise", 0, 1, 1000.0),
        ("denoise", 0, 2, 1000.0),
        ("denoise", 0, 3, 1000.0),
        ("commit", 1, 1, 1000.0),
        ("denoise", 1, 1, 1000.0),
        ("denoise", 1, 2, 1000.0),
    ]
    assert [step.accepted_slots for step in record.steps if step.phase == "denoise"] == [3] * 5
    assert [canvas.steps for canvas in record.canvases] == [3, 2]
    assert record.canvases[1].after_eos == 5
    assert record.canvases[0].argmax is not None
    assert record.canvases[0].argmax.shape == (3, LENGTH)
    assert (record.active_row_steps, record.waiting_row_steps, record.ended_row_steps) == (5, 0, 0)


class TwoRows(ScriptedSession):
    """Row 0 needs 1 step and ends in the first canvas; row 1 needs 3 and a second canvas."""

    def events(self, num_rows: int) -> Iterator[Forward | Delivery]:
        ended = RowBlock([10, EOS], [10, EOS, *[0] * 6], 6, 0, 0, 1, "converged", "eos")
        going = RowBlock(FIRST, FIRST, 0, 0, 0, 3, "cap", None)
        over = RowBlock([], FIRST, 0, 0, 8, 0, None, None)
        last = RowBlock([18, EOS], [18, EOS, *[0] * 6], 6, 0, 0, 2, "converged", "eos")
        yield Forward("prefill", 0, 1)
        for step in (1, 2, 3):
            yield Forward("denoise", 0, step)
        yield Delivery(0, [ended, going], self._trace(FIRST, 3, 2))
        yield Forward("commit", 1, 1)
        for step in (1, 2):
            yield Forward("denoise", 1, step)
        yield Delivery(1, [over, last], self._trace(FIRST, 2, 2))


def test_rows_of_a_batch_count_their_own_steps() -> None:
    session = TwoRows([])
    first, second = run_batch(session, [prompt(0), prompt(1)], process_id=0, repeat=0)
    assert (first.active_row_steps, first.waiting_row_steps, first.ended_row_steps) == (1, 2, 2)
    assert (second.active_row_steps, second.waiting_row_steps, second.ended_row_steps) == (5, 0, 0)
    assert first.delivered_tokens == 2
    assert second.delivered_tokens == 10
    for record in (first, second):
        slots = sum(
            len(c.tokens) + c.after_eos + c.over_limit + c.row_ended for c in record.canvases
        )
        assert slots == LENGTH * len(record.canvases)
        assert record.batch_size == 2


def test_repair_corrupts_a_quarter_of_the_content_and_never_the_end() -> None:
    session = ScriptedSession([(FIRST, 3), (SECOND, 2)])
    answered = run_batch(session, [prompt()], process_id=0, repeat=0)
    short = ScriptedSession([([10, 11, 12, 13, EOS, 0, 0, 0], 2)])
    answered_short = run_batch(short, [prompt(answer="abcd")], process_id=0, repeat=0)
    for used, records in ((session, answered), (short, answered_short)):
        (repair,) = run_repairs(used, [prompt()], records, max_repairs=5, seed=0)
        original = records[0].canvases[0].slots
        (given,) = used.asked[-1]["first_canvas"]
        changed = np.flatnonzero(np.asarray(given) != original)
        content = len(records[0].canvases[0].tokens)
        assert len(changed) == repair.corrupted == max(1, (content - (EOS in original)) // 4)
        assert all(original[i] != EOS and i < content for i in changed)
        # The script answers rightly again, so everything is repaired and preserved.
        assert repair.repaired == repair.corrupted
        assert repair.preserved == repair.untouched == content - repair.corrupted
        assert repair.correct


class Thinking(ScriptedSession):
    """Its ids 10 and 12 open and close a channel of thought."""

    @property
    def identity(self) -> Identity:
        return replace(super().identity, thought=Thought(10, 12))


def test_reasoning_is_counted_apart_and_not_judged() -> None:
    session = Thinking([(FIRST, 3), (SECOND, 2)])
    asked = replace(prompt(answer="defghij"), form=str.isupper)
    (record,) = run_batch(session, [asked], process_id=0, repeat=0)
    assert (record.text, record.correct, record.well_formed) == ("defghij", True, False)
    assert (record.reasoning_tokens, record.visible_tokens) == (3, 8)
    assert record.delivered_tokens == 11
    (plain,) = run_batch(ScriptedSession([(SECOND, 2)]), [prompt()], process_id=0, repeat=0)
    assert (plain.reasoning_tokens, plain.visible_tokens, plain.well_formed) == (None, None, None)


def test_only_right_answers_are_repaired() -> None:
    session = ScriptedSession([(FIRST, 3), (SECOND, 2)])
    answered = run_batch(session, [prompt(answer="something")], process_id=0, repeat=0)
    assert list(run_repairs(session, [prompt()], answered, max_repairs=5, seed=0)) == []
