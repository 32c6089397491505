"""Tasks: answers are right, splits do not overlap, evaluation sets are fixed."""

import random

import pytest

from model.tiny.tasks import TINY, TINY_HARD, WORKLOADS, Problem, evaluation_set, problems
from model.tiny.tokenizer import build_tokenizer


def expected_answer(problem: Problem) -> str:
    """The answer, computed from the prompt alone."""
    name, _, rest = problem.prompt.removesuffix("=").partition(" ")
    if name == "edit":
        change, _, text = rest.partition(" ")
        old, new = change.split(">")
        return text.replace(old, new)
    if name == "count":
        first, last = map(int, rest.split())
        return " ".join(str(n) for n in range(first, last + 1))
    if name == "reverse":
        return rest[::-1]
    if name == "sort":
        return "".join(sorted(rest))
    if name == "add":
        return str(sum(map(int, rest.split("+"))))
    assert name in ("sudoku", "shuffle")  # judged by their own tests
    return problem.answer


@pytest.mark.parametrize("workload", WORKLOADS)
def test_answers_are_right(workload: str) -> None:
    for problem in evaluation_set(workload, 60):
        assert problem.answer == expected_answer(problem)
        assert problem.is_correct(problem.answer)
        assert not problem.is_correct(problem.answer + "x")


def test_any_order_of_the_letters_answers_a_shuffle() -> None:
    problem = Problem("shuffle", "shuffle abc=", "bca")
    assert all(problem.is_correct(text) for text in ("abc", "cba", "bca"))
    assert not any(problem.is_correct(text) for text in ("abb", "ab", "abcc", "abd", ""))
    asked = [p for p in evaluation_set("tiny", 60) if p.task == "shuffle"]
    assert asked
    for p in asked:
        assert sorted(p.answer) == sorted(p.prompt.removeprefix("shuffle ").removesuffix("="))


def test_sudoku_answers_are_valid_and_match_the_clues() -> None:
    for problem in evaluation_set("tiny_hard", 40):
        if problem.task != "sudoku":
            continue
        clues = problem.prompt.removeprefix("sudoku ").removesuffix("=")
        grid = [problem.answer[i : i + 4] for i in range(0, 16, 4)]
        boxes = [grid[r][c : c + 2] + grid[r + 1][c : c + 2] for r in (0, 2) for c in (0, 2)]
        columns = ["".join(column) for column in zip(*grid, strict=True)]
        assert all(sorted(unit) == list("1234") for unit in (*grid, *columns, *boxes))
        assert all(clue in ("_", digit) for clue, digit in zip(clues, problem.answer, strict=True))


def test_training_never_sees_a_held_out_prompt() -> None:
    stream = problems(TINY | TINY_HARD, random.Random(1), held_out=False)
    seen = {next(stream).prompt for _ in range(3000)}
    asked = {p.prompt for name in WORKLOADS for p in evaluation_set(name, 200)}
    assert not seen & asked


def test_evaluation_set_is_fixed_balanced_and_without_repeats() -> None:
    first, second = evaluation_set("tiny", 60), evaluation_set("tiny", 60)
    assert first == second
    assert len({p.prompt for p in first}) == 60
    assert {t: sum(p.task == t for p in first) for t in TINY} == dict.fromkeys(TINY, 10)


def test_some_answers_spill_over_a_canvas() -> None:
    assert any(len(p.answer) + 1 > 32 for p in evaluation_set("tiny", 50))


def test_every_character_has_its_token() -> None:
    tokenizer = build_tokenizer()
    for name in WORKLOADS:
        for problem in evaluation_set(name, 40):
            for text in (problem.prompt, problem.answer):
                ids = tokenizer.encode(text).ids
                assert tokenizer.decode(ids) == text
                assert tokenizer.token_to_id("<unk>") not in ids


def test_unknown_workload_is_named() -> None:
    with pytest.raises(ValueError, match="'huge' has no tasks; valid: tiny, tiny_hard"):
        evaluation_set("huge", 5)
