"""What every workload is made of: prompts, and the set they form."""

from collections.abc import Callable
from dataclasses import dataclass, replace

Encode = Callable[[str], list[int]]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request. `answer` is a right text, None where nothing can be checked.

    Attributes:
        check: whether a text answers it rightly; None where no program can tell.
        form: whether a text has the form of an answer, right or wrong; None where it has none.
        token_ids: the prompt itself where it is no text, or has been fitted.
        fit: makes the prompt's ids where its length depends on the tokenizer; `text` then only says
            what the prompt is.
    """

    request_id: int
    task: str
    text: str
    answer: str | None
    check: Callable[[str], bool] | None = None
    token_ids: tuple[int, ...] | None = None
    form: Callable[[str], bool] | None = None
    fit: Callable[[Encode], list[int]] | None = None

    def ids(self, encode: Encode) -> list[int]:
        """What the model is given; `encode` turns text into ids."""
        assert self.fit is None or self.token_ids is not None, "Workload.fitted comes first"
        return encode(self.text) if self.token_ids is None else list(self.token_ids)

    def parses(self, text: str) -> bool:
        """Whether a text has the form of an answer."""
        return self.form is not None and self.form(text)

    def is_correct(self, text: str) -> bool | None:
        return None if self.check is None else self.check(text)


@dataclass(frozen=True, slots=True)
class Workload:
    """A fixed prompt set.

    Attributes:
        sha256: of all that determines the prompts: themselves and their answers, or, where they are
            made to the tokenizer's measure, the recipe with its generator's version. Two runs of
            one model with the same one asked the same questions.
    """

    name: str
    prompts: tuple[Prompt, ...]
    sha256: str

    @property
    def needs_tokenizer(self) -> bool:
        return any(prompt.token_ids is None for prompt in self.prompts)

    def fitted(self, encode: Encode) -> "Workload":
        """With the prompts made whose length depends on the tokenizer, and all others as they are.

        Raises:
            ValueError: a prompt cannot be made to its length.
        """
        made = tuple(
            prompt if prompt.fit is None else replace(prompt, token_ids=tuple(prompt.fit(encode)))
            for prompt in self.prompts
        )
        return replace(self, prompts=made)
