"""Prepare the student before training, and tokenize its corpus."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

from stratos.config import Config, StudentConfig
from stratos.core.by_name import named
from stratos.core.context import Context
from stratos.distill.words import RowsTooLong
from stratos.models.students import ready
from stratos.records import Corpus, Plan
from stratos.tasks.chat import prefix_template


@dataclass(frozen=True)
class Ready:
    """The student before its training, and its corpus in tokens."""

    chosen: StudentConfig
    model: Any
    tokenizer: Any
    data: Any
    questions: list[str]


def prepare(config: Config, plan: Plan, corpus: Corpus, context: Context, untouched: bool) -> Ready:
    """Make the student and tokenize the corpus; write its untouched twin if wanted."""
    import pyarrow.parquet as pq

    from stratos.distill.adapter import add_adapters, checkpoint_blocks
    from stratos.distill.data import encode
    from stratos.distill.packs import check_packs
    from stratos.distill.student_model import make_student, save_student
    from stratos.distill.trainer import check_adapter
    from stratos.distill.training_setup import shared_tokens

    settings = config.trainer
    chosen = named(config.students, plan.student)
    check_adapter(settings, [chosen])
    chosen = ready(chosen, context.cache_dir)
    instruction = config.task.system_prompt
    rows = pq.read_table(corpus.path, columns=["question", "completion"]).to_pydict()
    questions, completions = rows["question"], rows["completion"]
    context.tick(0, 1, "tokenizing")
    taken = shared_tokens(config, plan, chosen)
    chats = [_student_chat(config, question) for question in questions]
    model, tokenizer = make_student(
        chosen,
        config.task.vocabulary(),
        chain((message["content"] for chat in chats for message in chat), completions),
        config.seed,
        in_4_bits=settings.adapter == "qlora",
        tokenizer=None if taken is None else taken.tokenizer,
        instruction=instruction,
    )
    if chosen.path is not None and settings.adapter != "qlora":  # 4 bits round what they compute
        check_packs(chosen.name, model)
    if config.task.template_prefix:
        prefix_template(tokenizer, config.task.template_prefix)
    if taken is not None:
        # The teacher may end its answers with another token than its texts.
        model.generation_config.eos_token_id = list(taken.end_ids)
    if taken is not None and len(tokenizer) > chosen.vocab_size:
        n_embedded = len(tokenizer) * chosen.hidden_size
        context.warn(
            f"Student {chosen.name} uses the {len(tokenizer):,} tokens of its teacher, but was "
            f"planned with {chosen.vocab_size:,} (student.vocab_size), which is a smaller model: "
            f"{n_embedded:,} of its {model.num_parameters():,} parameters are embeddings."
        )
    data, n_too_long = encode(
        tokenizer,
        chats,
        completions,
        chosen.context_length,
    )
    if n_too_long:
        context.warn(str(RowsTooLong(n_too_long)))
    if untouched:
        whole = model, tokenizer
        if settings.adapter == "qlora":
            whole = make_student(chosen, None, [], config.seed, instruction=instruction)
        save_student(*whole, context.run_dir / "distill" / "untouched")
    model = add_adapters(model, settings, config.seed)
    if settings.checkpointing:
        checkpoint_blocks(model, True)
    return Ready(chosen, model, tokenizer, data, questions)


def _student_chat(config: Config, question: str) -> list[dict[str, str]]:
    from stratos.tasks.base import Item

    return config.task.student_messages(Item("", "", question, ""))
