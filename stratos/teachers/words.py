"""Why a teacher cannot be asked, or cannot answer."""

from __future__ import annotations

from stratos.core.formats import counted
from stratos.core.reasons import Reason

# --- hosted teachers ------------------------------------------------------------------------------


class NoKey(Reason):
    """The variable of the key is not set."""

    variable: str

    says = "{variable} is not set. Type: export {variable}=<your key>"


class OddKey(Reason):
    """What the variable of the key holds cannot be one."""

    variable: str

    says = (
        "{variable} holds a space, a line break or a character beyond ASCII, which no "
        "key does. Type: export {variable}=<your key>"
    )


class WrongKey(Reason):
    """An endpoint refuses the key, or wants one."""

    url: str
    variable: str | None
    """None where none was sent."""

    def __str__(self) -> str:
        if self.variable is None:
            return f"{self.url} wants a key. Name its variable with teacher.api_key_env=…"
        return (
            f"{self.url} refused the key in {self.variable}. Type: export {self.variable}=<a valid "
            "key>"
        )


class NoPrice(Reason):
    """The price of a teacher is not known."""

    model: str
    url: str
    keys: tuple[str, ...]
    """Settings that lack a price."""

    def __str__(self) -> str:
        typed = " ".join(f"teacher.{key}=<dollars>" for key in self.keys)
        return (
            f"the price of {self.model} at {self.url} is not known, and nothing is asked at an "
            f"unknown price. Type {typed}, for a million tokens; 0 for what costs nothing."
        )


class Retired(Reason):
    """A model is answered no more."""

    model: str
    day: str
    source: str
    successor: str
    """Teacher that a user of it would take next; "" where none lives."""

    def __str__(self) -> str:
        source = f" ({self.source})" if self.source else ""
        text = f"{self.model} was retired on {self.day}{source}."
        if not self.successor:
            return text
        return (
            f"{text} The nearest teacher that lives is {self.successor}: type "
            f"teacher={self.successor}"
        )


class TermsForbid(Reason):
    """The terms of a model do not allow to train others on its answers."""

    license: str

    says = (
        "its terms ({license}) do not allow to train other models on its answers. If you "
        "may all the same, type: teacher.accept_terms=true"
    )


# --- their endpoints ------------------------------------------------------------------------------


class NoConnection(Reason):
    """Nothing answers at an address."""

    url: str

    says = "{url} cannot be reached. Check the network, or teacher.base_url."


class Silent(Reason):
    """An endpoint takes too long to list its models."""

    url: str
    seconds: float

    says = "{url} did not list its models within {seconds:g} s."


class Redirected(Reason):
    """An endpoint sends its clients to another host."""

    url: str
    target: str

    says = (
        "{url} redirects to {target}, which is another host: nothing is sent there. "
        "If the model is served there, type teacher.base_url={target}/v1 (or what its "
        "address is)."
    )


class OtherAddress(Reason):
    """The API lies below the address that was given."""

    url: str
    api: str

    says = "{url} is not the address of its API. Type teacher.base_url={api}"


# --- teachers on this machine ---------------------------------------------------------------------


class NoWeights(Reason):
    """The weights of a model are nowhere."""

    tried: tuple[Reason, ...]

    def __str__(self) -> str:
        tried = " and ".join(map(str, self.tried)) or "no path is given"
        return f"its weights are not here: {tried}"


class NoPackage(Reason):
    """A package that ships weights is not installed."""

    package: str

    says = "the package {package} is not installed"


class NoPlace(Reason):
    """A path leads to no weights."""

    path: str

    says = "{path} is no folder and no .gguf file"


class NoDownload(Reason):
    """The hub does not give a model."""

    name: str
    why: Reason

    says = "{name} cannot be had from the Hugging Face hub ({why})"


class NoModelIn(Reason):
    """A folder holds no model."""

    source: str
    """The folder, or the package, in words."""
    gguf: str | None
    """File that was to be there."""
    files: tuple[str, ...]
    """GGUF files that are."""

    def __str__(self) -> str:
        has = f"; it has {', '.join(self.files)}" if self.files else ""
        missing = self.gguf or "a single .gguf file"
        return f"{self.source} has neither {missing} nor a config.json{has}"


class UnreadableWeights(Reason):
    """A folder holds weights that cannot be read."""

    folder: str
    why: Reason

    says = "its weights cannot be read from {folder}: {why}"


class CannotLoad(Reason):
    """A teacher cannot be loaded here."""

    why: Reason
    commands: tuple[str, ...]
    """What to type."""

    def __str__(self) -> str:
        return f"{self.why}. Type: {', or '.join(self.commands)}."


# --- the model of a log ---------------------------------------------------------------------------


# --- prompts and answers --------------------------------------------------------------------------


class LongPrompt(Reason):
    """A prompt with its longest answer passes the context."""

    about: str
    """How the question begins."""
    n_tokens: int
    """Of the prompt; at least, where bytes were counted."""
    answer_tokens: int
    context: int
    n_bytes: int | None = None
    """Of the prompt, where its tokens are not known."""

    def __str__(self) -> str:
        has = f"{self.n_tokens:,} tokens"
        if self.n_bytes is not None:
            has = f"{self.n_bytes:,} bytes (at least {has})"
        return (
            f"the prompt of {self.about} has {has}, which with an answer of up to "
            f"{self.answer_tokens:,} pass its context of {self.context:,} tokens"
        )


class BeyondEndpoint(Reason):
    """An endpoint refuses a prompt for its length."""

    about: str

    says = "the prompt of {about} is longer than its endpoint allows"


class NotRead(Reason):
    """A teacher could not read some questions."""

    teacher: str
    n_left_out: int
    n_questions: int
    why: Reason
    """Of the first of them."""

    def __str__(self) -> str:
        of = counted(self.n_questions, "question", spec=",")
        return (
            f"Teacher {self.teacher} cannot read {self.n_left_out:,} of {of}, which it therefore "
            f"does not answer: {self.why}."
        )


class CutShort(Reason):
    """Too many answers ended at the longest length."""

    teacher: str
    n_cut: int
    n_answers: int
    max_tokens: int
    source: str
    """What that length rests on."""
    advice: str

    def __str__(self) -> str:
        of = counted(self.n_answers, "answer", spec=",")
        return (
            f"Teacher {self.teacher}: {self.n_cut:,} of {of} were cut short at "
            f"{self.max_tokens:,} tokens ({self.source}), so its accuracy may be higher than is "
            f"measured. {self.advice}"
        )


class NoTeacher(Reason):
    """A class does not inherit from `Teacher`."""

    says = (
        "is not a Teacher. Let it inherit from stratos.teachers.base.Teacher, and write name, "
        "card, identity and ask."
    )


class TeacherLacks(Reason):
    """A class inherits from `Teacher` and leaves out what a run needs."""

    methods: tuple[str, ...]

    def __str__(self) -> str:
        return f"is not a Teacher: it lacks {', '.join(self.methods)}."
