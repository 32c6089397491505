"""How many tokens an answer has, by whom, and when they came; a chunk is never taken for a token.

Counts that come with every chunk (token ids, running usage) give each chunk its own. Otherwise the
text is tokenised again: what the server hid (an EOS, special tokens) is not in it, and a text may
be tokenised into fewer tokens than it was sampled in, but hardly into more. A server's total that
lies below the text's tokens is therefore wrong; `transformers serve` reports canvases that way. Its
short answers are within the slack that a text is given, so that the server caught with a long one
is believed no total from then on (`TokenCounter`).
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate, pairwise
from typing import NamedTuple

from bench.backends.openai.events import Answer, Chunk, Columns

TokenEnds = Callable[[str], Sequence[int]]
"""Tokenises a text; for every token, where it ends in the text, in characters."""

_SLACK_TOKENS, _SLACK_SHARE = 2, 0.1
"""By how much a text tokenised again may exceed the tokens it was made of."""


class Source(Enum):
    """Who counted."""

    RUNNING_USAGE = "running_usage"
    TOKEN_IDS = "token_ids"
    USAGE = "usage"
    RETOKENISED = "retokenised"


class UsageCheck(Enum):
    """What the server's total is worth."""

    AGREES = "agrees"
    MISSING = "missing"
    UNCHECKED = "unchecked"  # nothing to hold it against
    DISTRUSTED = "distrusted"  # not refuted, but of a server that was caught counting chunks
    COUNTS_CHUNKS = "counts_chunks"  # as many as chunks with text, fewer than the text's tokens
    BELOW_TEXT = "below_text"
    ABOVE_LIMIT = "above_limit"  # more than asked for, and the text does not bear it out
    DISAGREES = "disagrees"  # with the ids that the server sent


_TRUSTED = (UsageCheck.AGREES, UsageCheck.UNCHECKED)


class Delivery(NamedTuple):
    """Text that arrived; `tokens` is None where nobody could tell."""

    at_s: float
    tokens: int | None


@dataclass(frozen=True, slots=True)
class TokenCount:
    """The tokens of an answer.

    Attributes:
        delivered: what the user asked for and got, at most the limit; None where nobody can tell.
        over_limit: tokens beyond the limit, which some servers round up to whole canvases.
        source: of these two.
        reported, retokenised: the server's total, and the text's tokens.
        usage: what `reported` is worth.
        deliveries: what each chunk brought.
        by_chunk: who counted the deliveries; where that is not `source` they need not sum to it, by
            the tokens that the server hid.
    """

    delivered: int | None
    over_limit: int
    source: Source | None
    reported: int | None
    retokenised: int | None
    usage: UsageCheck
    deliveries: list[Delivery]
    by_chunk: Source | None


class TokenCounter:
    """Counts the answers of one server, and remembers whether it was caught counting chunks.

    Args:
        token_ends: the model's tokenizer, None where there is none.
    """

    def __init__(self, token_ends: TokenEnds | None) -> None:
        self._token_ends = token_ends
        self._caught = False

    def count(self, answer: Answer) -> TokenCount:
        """An answer's tokens; a total that stood before the server was caught is not taken back."""
        found = count_tokens(answer, self._token_ends, distrust=self._caught)
        self._caught |= found.usage is UsageCheck.COUNTS_CHUNKS
        return found


def count_tokens(
    answer: Answer, token_ends: TokenEnds | None, *, distrust: bool = False
) -> TokenCount:
    """Counts an answer's tokens.

    Args:
        token_ends: the model's tokenizer, None where there is none.
        distrust: believes no total that token ids do not bear out.
    """
    reported = None if answer.usage is None else answer.usage.completion_tokens
    ends = None if token_ends is None else list(token_ends(answer.reasoning + answer.text))
    retokenised = None if ends is None else len(ends)
    num_ids = _sum_ids(answer.chunks)
    usage = _check(answer, reported, retokenised, num_ids)
    if distrust and num_ids is None and usage in _TRUSTED:
        usage = UsageCheck.DISTRUSTED
    by_chunk: Source | None = None
    each: list[int] | None = None
    if num_ids is not None:
        by_chunk, each = Source.TOKEN_IDS, [len(chunk.ids or ()) for chunk in answer.chunks]
    elif usage in _TRUSTED and (told := _differences(answer.chunks)) is not None:
        by_chunk, each = Source.RUNNING_USAGE, told
    elif ends is not None:
        by_chunk, each = Source.RETOKENISED, _by_text(answer.chunks, ends)
    source, total = by_chunk, None if each is None else sum(each)
    if usage in _TRUSTED and by_chunk in (None, Source.RETOKENISED):
        source, total = Source.USAGE, reported
    delivered = None if total is None else min(total, answer.max_tokens)
    return TokenCount(
        delivered=delivered,
        over_limit=0 if total is None or delivered is None else total - delivered,
        source=source,
        reported=reported,
        retokenised=retokenised,
        usage=usage,
        deliveries=_deliveries(answer.chunks, each),
        by_chunk=by_chunk,
    )


def _sum_ids(chunks: Sequence[Chunk]) -> int | None:
    """Ids of all chunks, None where not every chunk with text had some."""
    spoken = [chunk for chunk in chunks if chunk.characters]
    if not spoken or any(chunk.ids is None for chunk in spoken):
        return None
    return sum(len(chunk.ids or ()) for chunk in chunks)


def _differences(chunks: Sequence[Chunk]) -> list[int] | None:
    """Tokens of every chunk by running usage, None where not every chunk with text had it."""
    spoken = [chunk for chunk in chunks if chunk.characters]
    if not spoken or any(chunk.running is None for chunk in spoken):
        return None
    running = list(accumulate((chunk.running or 0 for chunk in chunks), max, initial=0))
    return [after - before for before, after in pairwise(running)]


def _by_text(chunks: Sequence[Chunk], ends: Sequence[int]) -> list[int]:
    """Tokens of every chunk: those that end within its text."""
    reached = [
        bisect_left(ends, num_characters + 1)
        for num_characters in accumulate((chunk.characters for chunk in chunks), initial=0)
    ]
    return [after - before for before, after in pairwise(reached)]


def _check(
    answer: Answer, reported: int | None, retokenised: int | None, num_ids: int | None
) -> UsageCheck:
    if reported is None:
        return UsageCheck.MISSING
    if num_ids is not None:
        return UsageCheck.AGREES if num_ids == reported else UsageCheck.DISAGREES
    limit = answer.max_tokens
    if reported > limit and (retokenised is None or retokenised <= limit):
        return UsageCheck.ABOVE_LIMIT
    if retokenised is None:
        return UsageCheck.UNCHECKED
    if retokenised <= reported + max(_SLACK_TOKENS, _SLACK_SHARE * reported):
        return UsageCheck.AGREES
    with_text = sum(chunk.characters > 0 for chunk in answer.chunks)
    return UsageCheck.COUNTS_CHUNKS if reported == with_text else UsageCheck.BELOW_TEXT


def _deliveries(chunks: Sequence[Chunk], each: Sequence[int] | None) -> list[Delivery]:
    """The chunks that brought something; a role, a hidden token's empty text and an end do not."""
    if each is None:
        return Columns(Delivery(chunk.at_s, None) for chunk in chunks if chunk.characters)
    return Columns(
        Delivery(chunk.at_s, tokens)
        for chunk, tokens in zip(chunks, each, strict=True)
        if tokens or chunk.characters
    )
