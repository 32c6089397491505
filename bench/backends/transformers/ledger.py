"""Our rules of what is delivered, over the ids that upstream returns.

A row ends at its first EOS or at the limit of new tokens. Upstream knows no limit within a canvas:
it rounds up to whole ones.
"""

from collections.abc import Collection, Sequence

from bench.backends import RowBlock


class Ledger:
    """Cuts every row's blocks; accounts for every slot."""

    def __init__(
        self, batch_size: int, max_new_tokens: int, eos_token_ids: Collection[int]
    ) -> None:
        self._room = [max_new_tokens] * batch_size
        self._eos = frozenset(eos_token_ids)

    def ended(self, row: int) -> bool:
        return self._room[row] == 0

    def deliver(
        self,
        row: int,
        ids: Sequence[int],
        slots: Sequence[int],
        steps: int,
        stop_reason: str | None,
    ) -> RowBlock:
        """A row's share of a block: `ids` as returned, `slots` as denoised."""
        if self.ended(row):
            return RowBlock([], list(slots), 0, 0, len(slots), 0, None, None)
        ends = (index + 1 for index, token in enumerate(ids) if token in self._eos)
        num_content = next(ends, len(ids))
        tokens = list(ids[: min(num_content, self._room[row])])
        self._room[row] -= len(tokens)
        finish = "length" if self.ended(row) else None
        if tokens[-1] in self._eos:
            finish, self._room[row] = "eos", 0
        return RowBlock(
            tokens=tokens,
            slots=list(slots),
            after_eos=len(slots) - num_content,
            over_limit=num_content - len(tokens),
            row_ended=0,
            steps=steps,
            stop_reason=stop_reason,
            finish_reason=finish,
        )
