"""Task families with checkable answers, small enough for a model of a million parameters.

`TINY` is what the pair masters; `TINY_HARD` holds longer ones and 4x4 Sudoku, where correction
shows. A prompt is one line of text ending in "="; its answer is unique, except for `shuffle`, where
positions must agree on one of many. Prompts whose checksum falls into one residue class are held
out: training never sees them and evaluation draws nothing else.
"""

import random
import re
import string
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_WORDS = """
    a an the and but or not no yes we you he she it they this that here there now then up down in
    out on off over under red blue green gold dark light old new big small hot cold fast slow cat
    dog bird fish tree leaf stone river lake sea hill road town house door room table chair book
    page word line name song note time day night year sun moon star sky wind rain snow fire hand
    foot head heart eye ear man woman child king queen friend salt bread milk apple ship train
    goes runs sees takes gives makes finds keeps holds turns opens falls sleeps reads writes sings
""".split()
_HELD_OUT_CLASSES = 16


@dataclass(frozen=True, slots=True)
class Problem:
    """One prompt and a text that answers it: the only one, but for tasks with a normal form."""

    task: str
    prompt: str
    answer: str

    @property
    def held_out(self) -> bool:
        """Whether the prompt belongs to the evaluation split (one sixteenth of all prompts)."""
        return zlib.crc32(self.prompt.encode()) % _HELD_OUT_CLASSES == 0

    def is_correct(self, text: str) -> bool:
        form = _NORMAL_FORMS.get(self.task, str)
        return form(text) == form(self.answer)


Sampler = Callable[[random.Random], tuple[str, str]]


def _letters(rng: random.Random, low: int, high: int) -> str:
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(low, high)))


def _edit(low: int, high: int) -> Sampler:
    """Copy a sentence of low..high characters, one letter replaced by another throughout."""

    def sample(rng: random.Random) -> tuple[str, str]:
        length, words = rng.randint(low, high), [rng.choice(_WORDS)]
        while len(" ".join(words)) < length:
            words.append(rng.choice(_WORDS))
        text = " ".join(words)[:high].strip()
        old = rng.choice(sorted(set(text) - {" "}))
        new = rng.choice([c for c in string.ascii_lowercase if c != old])
        return f"edit {old}>{new} {text}=", text.replace(old, new)

    return sample


def _count(low: int, high: int) -> Sampler:
    """Count from one number to a later one; the answer has low..high numbers."""

    def sample(rng: random.Random) -> tuple[str, str]:
        first, steps = rng.randint(1, 80), rng.randint(low, high) - 1
        numbers = range(first, first + steps + 1)
        return f"count {first} {first + steps}=", " ".join(map(str, numbers))

    return sample


def _reverse(low: int, high: int) -> Sampler:
    def sample(rng: random.Random) -> tuple[str, str]:
        text = _letters(rng, low, high)
        return f"reverse {text}=", text[::-1]

    return sample


def _sort(low: int, high: int) -> Sampler:
    def sample(rng: random.Random) -> tuple[str, str]:
        text = _letters(rng, low, high)
        return f"sort {text}=", "".join(sorted(text))

    return sample


def _shuffle(low: int, high: int) -> Sampler:
    """Low..high different letters in any order: every permutation is right."""

    def sample(rng: random.Random) -> tuple[str, str]:
        letters = rng.sample(string.ascii_lowercase, rng.randint(low, high))
        return f"shuffle {''.join(letters)}=", "".join(rng.sample(letters, len(letters)))

    return sample


def _add(digits: int) -> Sampler:
    def sample(rng: random.Random) -> tuple[str, str]:
        first, second = (rng.randint(10 ** (digits - 1), 10**digits - 1) for _ in range(2))
        return f"add {first}+{second}=", str(first + second)

    return sample


def _sudoku(blanks: int) -> Sampler:
    """A 4x4 Sudoku with one solution; rows joined, blanks as "_"; the answer is all 16 digits."""

    def sample(rng: random.Random) -> tuple[str, str]:
        digits = rng.sample("1234", 4)
        # Permuting bands, rows within them and likewise columns keeps a pattern grid valid.
        rows, columns = (
            [2 * band + line for band in rng.sample((0, 1), 2) for line in rng.sample((0, 1), 2)]
            for _ in range(2)
        )
        solution = "".join(digits[(c + 2 * (r % 2) + r // 2) % 4] for r in rows for c in columns)
        cells = list(solution)
        removed = 0
        for cell in rng.sample(range(16), 16):
            if removed == blanks:
                break
            kept, cells[cell] = cells[cell], "_"
            if len(_solutions("".join(cells), limit=2)) == 1:
                removed += 1
            else:
                cells[cell] = kept
        return f"sudoku {''.join(cells)}=", solution

    return sample


def _solutions(grid: str, limit: int) -> list[str]:
    """Up to `limit` completions of a 4x4 grid, by depth-first search."""
    if "_" not in grid:
        return [grid]
    cell = grid.index("_")
    row, column = divmod(cell, 4)
    box = (row // 2 * 2) * 4 + column // 2 * 2
    seen = set(grid[row * 4 : row * 4 + 4]) | set(grid[column::4])
    seen |= {grid[box], grid[box + 1], grid[box + 4], grid[box + 5]}
    found: list[str] = []
    for digit in "1234":
        if digit not in seen and len(found) < limit:
            found += _solutions(grid[:cell] + digit + grid[cell + 1 :], limit - len(found))
    return found


TINY: dict[str, Sampler] = {
    "edit": _edit(16, 44),
    "count": _count(3, 12),
    "reverse": _reverse(3, 8),
    "sort": _sort(3, 7),
    "add": _add(2),
    "shuffle": _shuffle(4, 5),
}
TINY_HARD: dict[str, Sampler] = {
    "reverse_long": _reverse(9, 14),
    "sort_long": _sort(8, 12),
    "add_long": _add(3),
    "sudoku": _sudoku(6),
}
WORKLOADS = {"tiny": TINY, "tiny_hard": TINY_HARD}

_NORMAL_FORMS: dict[str, Callable[[str], object]] = {"shuffle": sorted}
"""Texts with one normal form answer the same prompt."""

_ANSWER_FORMS = {
    "edit": r"[a-z]+( [a-z]+)*",
    "count": r"\d+( \d+)+",
    "reverse": r"[a-z]+",
    "sort": r"[a-z]+",
    "add": r"\d+",
    "shuffle": r"[a-z]+",
    "reverse_long": r"[a-z]+",
    "sort_long": r"[a-z]+",
    "add_long": r"\d+",
    "sudoku": r"[1-4]{16}",
}


def parses(task: str, text: str) -> bool:
    """Whether a text has the form of an answer to the task, right or wrong."""
    return re.fullmatch(_ANSWER_FORMS[task], text) is not None


def problems(tasks: dict[str, Sampler], rng: random.Random, *, held_out: bool) -> Iterator[Problem]:
    """An endless stream of problems, tasks drawn uniformly, from one side of the held-out split."""
    names = list(tasks)
    while True:
        name = rng.choice(names)
        problem = Problem(name, *tasks[name](rng))
        if problem.held_out == held_out:
            yield problem


def evaluation_set(workload: str, num_problems: int, seed: int = 0) -> list[Problem]:
    """Fixed held-out problems, tasks in equal shares, without repeats.

    Raises:
        ValueError: the workload is unknown; the message lists the valid ones.
    """
    if workload not in WORKLOADS:
        raise ValueError(f"workload {workload!r} has no tasks; valid: {', '.join(WORKLOADS)}")
    tasks = WORKLOADS[workload]
    streams = [
        problems({name: sampler}, random.Random(f"{seed}/{name}"), held_out=True)
        for name, sampler in tasks.items()
    ]
    chosen: dict[str, Problem] = {}
    while len(chosen) < num_problems:
        stream = streams[len(chosen) % len(streams)]
        problem = next(p for p in stream if p.prompt not in chosen)
        chosen[problem.prompt] = problem
    return list(chosen.values())
