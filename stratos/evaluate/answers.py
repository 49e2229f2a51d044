"""Answers to test items: of a local model or the planned teacher, kept as JSON lines."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from math import inf, log
from pathlib import Path
from typing import Any

import msgspec

from stratos.config import EvaluateConfig
from stratos.core import extras
from stratos.core.atomic_files import write_atomically
from stratos.core.context import Context
from stratos.core.errors import StratosError
from stratos.core.intervals import wilson
from stratos.models.decode.batched import complete
from stratos.models.decode.constrained import is_installed, why_no_grammar
from stratos.models.decode.decoder import Decoder, Decoding
from stratos.models.decode.label_scores import LabelAnswers, score_labels
from stratos.models.kinds import Prediction, is_predictor, load_predictor
from stratos.models.pretrained import load_model, load_tokenizer
from stratos.records import Corpus, Scorecard, corpus_rows, from_json
from stratos.tasks.base import Answered, Item, Message, Score, Task
from stratos.teachers.asking import ask_questions, unread
from stratos.teachers.base import TOO_LONG, Answer, Question, Teacher
from stratos.teachers.cost_estimate import expect, expect_again, expect_longer, parts_in_time
from stratos.teachers.prompting import AnswerLimit, ask_whole, chat, n_truncated

Tick = Callable[[int, int], None]
_AT_ONCE = 256
"""Texts that a student is given at once that is no language model."""
_FAR, _SURE = 0.3, 0.999
"""Points that a teacher is behind the student when it is asked no more, and the confidence."""
_CUT = 0.1
"""Share of answers cut short from which a teacher is asked all items."""
_LEAST = 1e-12
"""Least probability that is told as a logarithm."""


@dataclass(frozen=True)
class Took:
    """What one answer of a teacher took."""

    input_tokens: int
    output_tokens: int
    seconds: float
    cached_input_tokens: int = 0
    """Of the input tokens, those at the lower price."""


@dataclass(frozen=True)
class Answers:
    """The answers of one model, scored, and what they took; all in the order of the items."""

    items: tuple[Item, ...]
    texts: tuple[str, ...]
    scores: tuple[Score, ...]
    tokens: tuple[int, ...]
    """Output tokens of each answer."""
    input_tokens: int
    seconds: float
    cpu_seconds: float
    max_tokens: int = 0
    """Longest answer, as it was asked for last."""
    n_truncated: int = 0
    """Answers that were cut there."""
    wall_seconds: float | None = None
    """From the first question to the last answer, where that may be less than `seconds`."""
    n_cached: int = 0
    """Answers that were kept from before, and took none of the `wall_seconds`."""
    logprobs: tuple[float, ...] = ()
    """Log-probability of each answer; none where they were not asked for."""
    n_too_long: int = 0
    """Items that were left out, since they are longer than the teacher's context."""
    decoding: Decoding | None = None
    """What decoded a local model."""
    took: tuple[Took, ...] = ()
    """What each answer of a teacher took; none of other models."""

    def pairs(self) -> list[Answered]:
        """Return each item with its answer and its score."""
        return list(map(Answered, self.items, self.texts, self.scores))

    @staticmethod
    def none() -> Answers:
        """Return the answers of a model that is asked nothing."""
        return Answers((), (), (), (), 0, 0.0, 0.0)


def ask_folder(
    task: Task,
    path: Path | str,
    items: Sequence[Item],
    *,
    max_new_tokens: int,
    batch_size: int,
    tick: Tick | None = None,
    from_hub: bool = False,
    schemas: Sequence[Mapping[str, Any] | None] = (),
    with_logprobs: bool = False,
    decoder: str = Decoder.AUTO,
    labels: LabelAnswers | None = None,
) -> Answers:
    """Ask the model in a Hugging Face folder as a student is asked, and score what it writes.

    Loading is not counted in the seconds. Weights are read from safetensors alone, and no code
    that a folder brings is run. A name of the hub is fetched only with `from_hub`. `schemas`
    constrain the answers as those of `complete` do; `with_logprobs` says how likely each is;
    `decoder` is one of `Decoder`. With `labels`, the likeliest of them is the answer, and nothing
    is decoded.

    Raises:
        ForeignFileError: there is no such model, or it is no causal language model.
        ValueError: it has no chat template.
    """
    if is_predictor(path):
        return _ask_predictor(task, Path(path), items, tick)
    import torch

    tokenizer = load_tokenizer(path, is_folder=not from_hub)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(path, dtype="auto", is_folder=not from_hub).to(device)
    if labels is not None:
        return _ask_for_labels(task, model, tokenizer, labels, items, batch_size, tick)
    decoding = Decoding(Decoder(decoder))
    started, cpu_started = time.perf_counter(), time.process_time()
    completions = complete(
        model,
        tokenizer,
        [task.student_messages(item) for item in items],
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        tick=tick,
        schemas=schemas,
        with_logprobs=with_logprobs,
        decoding=decoding,
    )
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    texts = tuple(completion.text for completion in completions)
    return Answers(
        items=tuple(items),
        texts=texts,
        scores=_scored(task, items, texts),
        tokens=tuple(completion.output_tokens for completion in completions),
        input_tokens=sum(completion.input_tokens for completion in completions),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        max_tokens=max_new_tokens,
        n_truncated=sum(completion.is_truncated for completion in completions),
        logprobs=tuple(
            completion.logprob for completion in completions if completion.logprob is not None
        ),
        decoding=decoding,
    )


def _ask_for_labels(
    task: Task,
    model: Any,
    tokenizer: Any,
    labels: LabelAnswers,
    items: Sequence[Item],
    batch_size: int,
    tick: Tick | None,
) -> Answers:
    """Ask a language model for the likeliest of the labels."""
    started, cpu_started = time.perf_counter(), time.process_time()
    chats = [task.student_messages(item) for item in items]
    scores = score_labels(model, tokenizer, chats, labels.labels, batch_size=batch_size, tick=tick)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    predictions = labels.predictions(scores.logprobs_NL)
    n_tokens = dict(zip(labels.labels, scores.label_tokens, strict=True))
    return _predicted(
        task,
        items,
        predictions,
        tokens=tuple(n_tokens[answer.text] for answer in predictions),
        input_tokens=sum(scores.prompt_tokens),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        max_tokens=max(scores.label_tokens),
    )


def _ask_predictor(task: Task, folder: Path, items: Sequence[Item], tick: Tick | None) -> Answers:
    """Ask a student that is no language model: an answer of it is one token, its label."""
    student = load_predictor(folder)
    started, cpu_started = time.perf_counter(), time.process_time()
    predictions = []
    for start in range(0, len(items), _AT_ONCE):
        part = items[start : start + _AT_ONCE]
        predictions += student.predict([item.question for item in part])
        if tick is not None:
            tick(len(predictions), len(items))
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    return _predicted(
        task,
        items,
        predictions,
        tokens=(1,) * len(items),
        input_tokens=sum(len(item.question.split()) for item in items),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        max_tokens=1,
    )


def _predicted(
    task: Task, items: Sequence[Item], predictions: Sequence[Prediction], **took: Any
) -> Answers:
    """Return answers with probabilities, scored; `took` are fields of `Answers`."""
    texts = tuple(answer.text for answer in predictions)
    return Answers(
        items=tuple(items),
        texts=texts,
        scores=_scored(task, items, texts),
        logprobs=tuple(log(max(answer.probability, _LEAST)) for answer in predictions),
        **took,
    )


def ask_teacher(
    task: Task,
    teacher: Teacher,
    prompt: str,
    items: Sequence[Item],
    *,
    limit: AnswerLimit,
    context: Context,
    minutes: float = inf,
    tick: Tick | None = None,
    by_student: Answers | None = None,
) -> Answers:
    """Ask a teacher with one of the task's prompts; answers that are in the cache cost nothing.

    Where too many answers are cut, they are asked for again with more room, as in the probe. Items
    that are longer than its context are left out, with a warning. Where the money or the time ends,
    the answers up to there are returned, with a warning or a note. The seconds are those that the
    answers took when they were made, cached or not.

    Args:
        task: whose prompt it is.
        teacher: who is asked.
        prompt: name of the prompt.
        items: in the order in which they are asked.
        limit: longest answer.
        context: of the stage.
        minutes: longest time for all of them.
        tick: called with (done, total).
        by_student: what it is compared with: a teacher far behind (`_FAR`) is not asked the rest.
    """
    started, cpu_started = time.perf_counter(), time.process_time()
    chats = [chat(task, item, prompt) for item in items]
    questions = [Question(messages, limit.tokens) for messages in chats]
    expect(teacher, questions, context)
    answers: list[Answer] = []
    n_asked = n_again = 0

    def tell(done: int, total: int) -> None:
        if tick is not None:
            most = len(chats) + n_again
            tick(min(most, n_asked + done), most)

    def ask(questions: Sequence[Question]) -> list[Answer]:
        nonlocal n_asked
        answers_ = ask_questions(teacher, questions, context, tick=tell)
        n_asked += len(questions)
        return answers_

    def ask_again(questions: Sequence[Question]) -> None:
        nonlocal n_again
        n_again += len(questions)
        expect_again(teacher, questions, context)

    for part in parts_in_time(chats, minutes):
        [result] = ask_whole(
            teacher,
            [(part, limit)],
            ask,
            foretell=ask_again,
        )
        answers += result.answers
        before, limit = limit, result.limit.measured_by(result.answers)
        if limit.is_raised and limit.tokens > before.tokens:
            remaining = chats[len(answers) :]
            expect_longer(
                teacher, [Question(pending, limit.tokens) for pending in remaining], context
            )
        if len(result.answers) < len(part):
            break  # the money has ended, and was warned of
        by_teacher = _of_teacher(task, items, answers, limit.tokens)
        if len(answers) < len(chats) and _is_far_behind(by_teacher, by_student):
            context.note(
                f"Teacher {teacher.name} answered {len(answers):,} of {len(chats):,} test items, "
                f"and is not asked the rest: it is {100 * _FAR:.0f} points behind the student."
            )
            break
    else:
        if len(answers) < len(chats):
            context.note(
                f"Teacher {teacher.name} answered {len(answers):,} of {len(chats):,} test items "
                f"within its time limit (evaluate.teacher_minutes={minutes:g})."
            )
    complaints = unread(teacher, questions, answers), limit.complaint(teacher.name, answers)
    for complaint in filter(None, complaints):
        context.warn(str(complaint))
    return replace(
        _of_teacher(task, items, answers, limit.tokens),
        cpu_seconds=time.process_time() - cpu_started,
        wall_seconds=time.perf_counter() - started,
    )


def _is_far_behind(teacher: Answers, student: Answers | None) -> bool:
    """Return whether further answers of a teacher would hardly change how the two compare."""
    if student is None:
        return False
    if teacher.n_truncated > _CUT * len(teacher.scores):
        return False  # its accuracy is that of the room that it was given
    behind, ahead = (
        wilson(sum(score.exact for score in model.scores), len(model.scores), _SURE)
        for model in (teacher, student)
    )
    return behind.high + _FAR < ahead.low


def _of_teacher(
    task: Task, items: Sequence[Item], answers: Sequence[Answer], max_tokens: int
) -> Answers:
    """Score a teacher's answers; questions that are longer than its context have none."""
    pairs = [pair for pair in zip(items, answers, strict=False) if pair[1].finish != TOO_LONG]
    read = [answer for _, answer in pairs]
    texts = tuple(answer.text for answer in read)
    asked_items = tuple(item for item, _ in pairs)
    return Answers(
        items=asked_items,
        texts=texts,
        scores=_scored(task, asked_items, texts),
        tokens=tuple(answer.output_tokens for answer in read),
        input_tokens=sum(answer.input_tokens for answer in read),
        seconds=sum(answer.seconds for answer in read),
        cpu_seconds=0.0,
        max_tokens=max_tokens,
        n_truncated=n_truncated(read),
        n_cached=sum(answer.cached for answer in read),
        n_too_long=len(answers) - len(read),
        took=tuple(
            Took(
                answer.input_tokens,
                answer.output_tokens,
                answer.seconds,
                answer.cached_input_tokens,
            )
            for answer in read
        ),
    )


def _scored(task: Task, items: Sequence[Item], texts: Sequence[str]) -> tuple[Score, ...]:
    return tuple(task.score(text, item) for text, item in zip(texts, items, strict=True))


ROLE = "constrained"
_N_LOOKED_AT = 64
"""Training items that tell whether the student has learnt to write bare JSON."""


def schemas_of(
    task: Task, evaluate: EvaluateConfig, corpus: Corpus, items: Sequence[Item], context: Context
) -> list[Mapping[str, Any] | None]:
    """Return the schema of the answer to each item; empty where decoding is not constrained.

    It is not where answers have no schema, where the student has learnt to reason before it
    answers, or where llguidance is not installed, which is warned of.
    """
    schemas = [task.answer_schema(item) for item in items]
    if not any(schema is not None for schema in schemas) or not evaluate.constrained:
        return []
    if not is_installed():
        context.warn(f"Constrained decoding needs llguidance. Type: {extras.install('schema')}")
        return []
    if not _is_bare(Path(corpus.path)):
        context.note("The student reasons before it answers: its decoding is not constrained.")
        return []
    whys = {
        id(schema): why_no_grammar(schema) for schema in {id(o): o for o in schemas if o}.values()
    }
    if reasons := {str(why) for why in whys.values() if why}:
        context.warn(f"Decoding is not constrained where a schema has no grammar: {min(reasons)}")
    return [None if schema is None or whys[id(schema)] else schema for schema in schemas]


def _is_bare(corpus: Path) -> bool:
    """Return whether the first answers of a corpus begin as JSON does."""
    first = islice(corpus_rows(corpus), _N_LOOKED_AT)
    return all(row.completion.lstrip().startswith(("{", "[")) for row in first)


_ROOM = 1.25


@dataclass(frozen=True)
class KeptAnswer:
    """One answer of the student to a test item, with the chat that led to it."""

    id: str
    slice: str
    question: str
    gold: str
    messages: list[Message]
    text: str
    output_tokens: int
    score: Score
    logprob: float
    """Log-probability of the text by the student."""
    origin: str = ""
    conversation: str = ""
    """Hash that the turns of one conversation share; "" of what is no turn."""


def room_for_answers(answers: Sequence[KeptAnswer], most: int) -> int:
    """Return tokens that are enough for answers: the longest and a quarter, in steps of 16.

    Args:
        answers: the student's.
        most: tokens at which they were cut; one of that length may be longer.
    """
    longest = max(answer.output_tokens for answer in answers)
    return min(most, 16 * math.ceil((_ROOM * longest) / 16))


def answers_path(run_dir: Path) -> Path:
    """Return where the student's answers of a run lie."""
    return run_dir / "evaluate" / "answers.jsonl"


def write_answers(run_dir: Path, task: Task, answers: Answers) -> None:
    """Keep every answer of the student."""
    conversations = [""] * len(answers.items)
    if (turns := task.turns()) is not None:
        questions = (item.question for item in answers.items)
        pairs = zip(questions, answers.texts, strict=True)
        conversations = [turn.conversation for turn in turns.of_answers(pairs)]
    rows = [
        KeptAnswer(
            id=item.id,
            slice=item.slice,
            question=item.question,
            gold=item.answer,
            messages=task.student_messages(item),
            text=text,
            output_tokens=n_tokens,
            score=score,
            origin=item.origin,
            logprob=logprob,
            conversation=conversation,
        )
        for item, text, n_tokens, score, logprob, conversation in zip(
            answers.items,
            answers.texts,
            answers.tokens,
            answers.scores,
            answers.logprobs,
            conversations,
            strict=True,
        )
    ]
    _write_lines(answers_path(run_dir), rows)


def read_answers(run_dir: Path, scorecard: Scorecard | None = None) -> list[KeptAnswer]:
    """Read the student's answers back.

    Args:
        run_dir: folder of the run.
        scorecard: says where they lie if the run folder has none: it was made in another one.

    Raises:
        StratosError: the file is missing or corrupt.
    """
    path = answers_path(run_dir)
    if scorecard is not None and scorecard.answers_path and not path.exists():
        path = Path(scorecard.answers_path)
    try:
        lines = path.read_bytes().splitlines()
        return [from_json(line, KeptAnswer) for line in lines]
    except (OSError, msgspec.DecodeError) as error:
        raise StratosError(
            f"The student's answers cannot be read from {path} ({error}). Delete "
            f"{path.parent.parent / 'evaluate.json'} and give the command again: they are made "
            "again."
        ) from error


def write_examples(run_dir: Path, items: Sequence[Item], by_role: Mapping[str, Answers]) -> Path:
    """Put side by side what each model wrote on `items`; return the file."""
    rows: dict[str, dict[str, Any]] = {
        item.id: {
            "id": item.id,
            "slice": item.slice,
            "question": item.question,
            "gold": item.answer,
            "scores": {},
        }
        for item in items
    }
    for role, answers in by_role.items():
        for item, text, score in zip(answers.items, answers.texts, answers.scores, strict=True):
            if item.id in rows:
                rows[item.id][role] = text
                rows[item.id]["scores"][role] = asdict(score)
        for item, took in zip(answers.items, answers.took, strict=False):  # none of a student
            if item.id in rows:
                rows[item.id].setdefault("took", {})[role] = asdict(took)
    path = run_dir / "evaluate" / "examples.jsonl"
    _write_lines(path, list(rows.values()))
    return path


def _write_lines(path: Path, rows: Sequence[Any]) -> None:
    write_atomically(path, b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
