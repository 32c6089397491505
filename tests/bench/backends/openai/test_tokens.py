"""Counting tokens and canvases: by whom, and never by chunks."""

import pytest

from bench.backends.openai.canvases import in_canvases
from bench.backends.openai.events import Answer, Chunk, Usage
from bench.backends.openai.session import token_ends
from bench.backends.openai.tokens import Source, TokenCounter, UsageCheck, count_tokens
from model.tiny.tokenizer import build_tokenizer


def letters(text: str) -> list[int]:
    """A tokenizer whose tokens are characters."""
    return list(range(1, len(text) + 1))


def answer(
    *texts: str,
    usage: int | None = None,
    running: list[int | None] | None = None,
    ids: list[int] | None = None,
    max_tokens: int = 100,
) -> Answer:
    """Chunks a second apart."""
    chunks = [
        Chunk(
            at_s=float(i + 1),
            characters=len(text),
            running=None if running is None else running[i],
            ids=None if ids is None else tuple(range(ids[i])),
        )
        for i, text in enumerate(texts)
    ]
    return Answer(
        0,
        max_tokens,
        sent_s=0.0,
        chunks=chunks,
        text="".join(texts),
        usage=None if usage is None else Usage(8, usage),
    )


def test_running_usage_gives_each_chunk_its_tokens() -> None:
    told = answer("", "abcdef", "", "gh", usage=12, running=[0, 8, 9, 12])
    count = count_tokens(told, None)
    assert (count.delivered, count.source, count.by_chunk) == (
        12,
        Source.RUNNING_USAGE,
        Source.RUNNING_USAGE,
    )
    assert [(d.at_s, d.tokens) for d in count.deliveries] == [(2, 8), (3, 1), (4, 3)]


def test_token_ids_outweigh_a_wrong_total() -> None:
    count = count_tokens(answer("ab", "cd", usage=2, ids=[4, 3]), letters)
    assert (count.delivered, count.source, count.usage) == (
        7,
        Source.TOKEN_IDS,
        UsageCheck.DISAGREES,
    )


def test_a_running_count_of_canvases_is_found_out() -> None:
    told = answer("a" * 30, "b" * 31, usage=2, running=[1, 2])
    count = count_tokens(told, letters)
    assert (count.usage, count.delivered) == (UsageCheck.COUNTS_CHUNKS, 61)
    assert [d.tokens for d in count.deliveries] == [30, 31]
    assert count_tokens(told, None).usage is UsageCheck.UNCHECKED


def test_a_server_caught_counting_chunks_is_believed_no_short_answer_either() -> None:
    short, long = answer("ab", usage=1, running=[1]), answer("a" * 30, "b" * 31, usage=2)
    counter = TokenCounter(letters)
    before = counter.count(short)
    assert (before.usage, before.delivered) == (UsageCheck.AGREES, 1)
    assert counter.count(long).usage is UsageCheck.COUNTS_CHUNKS
    after = counter.count(short)
    assert (after.usage, after.source) == (UsageCheck.DISTRUSTED, Source.RETOKENISED)
    assert (after.delivered, [d.tokens for d in after.deliveries]) == (2, [2])
    with_ids = counter.count(answer("ab", usage=3, ids=[3]))
    assert (with_ids.usage, with_ids.delivered) == (UsageCheck.AGREES, 3)
    assert TokenCounter(letters).count(short).usage is UsageCheck.AGREES


def test_a_total_without_counts_by_chunk_leaves_them_unknown() -> None:
    count = count_tokens(answer("ab", "cd", usage=9), None)
    assert (count.delivered, count.source, count.by_chunk) == (9, Source.USAGE, None)
    assert [d.tokens for d in count.deliveries] == [None, None]
    ledger = in_canvases(count, 32, ended=True)
    assert (ledger.canvases, ledger.reason) == (None, "tokens_by_chunk_unknown")


def test_nothing_told_and_no_tokenizer_is_unknown() -> None:
    count = count_tokens(answer("ab", "cd"), None)
    assert (count.delivered, count.source, count.usage) == (None, None, UsageCheck.MISSING)
    assert len(count.deliveries) == 2


def test_hidden_tokens_are_no_disagreement() -> None:
    """An EOS and a special token stand in the total and not in the text."""
    count = count_tokens(answer("ab", "cd", "", usage=6), letters)
    assert (count.delivered, count.source, count.usage) == (6, Source.USAGE, UsageCheck.AGREES)
    assert (count.by_chunk, [d.tokens for d in count.deliveries]) == (Source.RETOKENISED, [2, 2])


@pytest.mark.parametrize(
    ("usage", "num_letters", "expected"),
    [
        (20, 22, UsageCheck.AGREES),
        (20, 23, UsageCheck.BELOW_TEXT),
        (200, 210, UsageCheck.ABOVE_LIMIT),
        (200, 90, UsageCheck.ABOVE_LIMIT),
        (128, 120, UsageCheck.AGREES),
    ],
)
def test_how_far_a_total_is_believed(usage: int, num_letters: int, expected: UsageCheck) -> None:
    limit = 1000 if usage == 200 and num_letters == 210 else 100
    found = count_tokens(answer("x" * num_letters, usage=usage, max_tokens=limit), letters).usage
    assert found is (UsageCheck.AGREES if limit == 1000 else expected)


def test_more_than_was_asked_for_goes_over_the_limit() -> None:
    count = count_tokens(answer("x" * 30, usage=32, running=[32], max_tokens=20), letters)
    assert (count.delivered, count.over_limit) == (20, 12)
    ledger = in_canvases(count, 32, ended=False)
    assert (ledger.slots, ledger.after_eos, ledger.over_limit) == (32, 0, 12)


def test_canvases_by_tokens_whatever_the_chunks() -> None:
    """Three canvases: the first in two chunks, the others in one."""
    told = answer("a", "b", "c", usage=88, running=[10, 32, 88])
    ledger = in_canvases(count_tokens(told, None), 32, ended=True)
    assert ledger.canvases is not None
    assert [(c.at_s, c.tokens) for c in ledger.canvases] == [(2, 32), (3, 32), (3, 24)]
    assert (ledger.slots, ledger.after_eos) == (96, 8)


def test_canvases_by_text_only_where_a_chunk_can_be_one() -> None:
    fits = in_canvases(count_tokens(answer("a" * 31, "b" * 32), letters), 32, ended=False)
    assert fits.canvases is not None
    assert [c.tokens for c in fits.canvases] == [31, 32]
    assert (fits.slots, fits.over_limit) == (64, 1)
    large = in_canvases(count_tokens(answer("a" * 40), letters), 32, ended=True)
    assert (large.canvases, large.reason) == (None, "a_chunk_holds_more_than_a_canvas")


def test_a_token_belongs_to_the_chunk_that_completes_it() -> None:
    def pairs(text: str) -> list[int]:
        return [*range(2, len(text), 2), len(text)]

    count = count_tokens(answer("abc", "def"), pairs)
    assert [d.tokens for d in count.deliveries] == [1, 2]


def test_a_real_tokenizer() -> None:
    ends = token_ends(build_tokenizer())
    text = "sort dacb="
    assert ends(text)[-1] == len(text)
    assert len(ends(text)) == len(build_tokenizer().encode(text, add_special_tokens=False).ids)
