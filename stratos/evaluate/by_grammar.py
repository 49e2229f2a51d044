"""The student's answers where its decoding is constrained by the schema of the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from stratos.config import Config
from stratos.core import extras
from stratos.core.context import Context
from stratos.evaluate.answers import Answers, ask_folder
from stratos.models.decode.constrained import is_installed, why_no_grammar
from stratos.records import Corpus, Student
from stratos.tasks.base import Item

ROLE = "constrained"
_N_LOOKED_AT = 64
"""Training items that tell whether the student has learnt to write bare JSON."""


def schemas_of(
    config: Config, corpus: Corpus, items: Sequence[Item], context: Context
) -> list[Mapping[str, Any] | None]:
    """Return the schema of the answer to each item; empty where decoding is not constrained.

    It is not where answers have no schema, where the student has learnt to reason before it
    answers, or where llguidance is not installed, which is warned of.
    """
    found = [config.task.answer_schema(item) for item in items]
    if not any(one is not None for one in found) or not config.evaluate.constrained:
        return []
    if not is_installed():
        context.warn(f"Constrained decoding needs llguidance. Type: {extras.install('schema')}")
        return []
    if not _is_bare(Path(corpus.path)):
        context.note("The student reasons before it answers: its decoding is not constrained.")
        return []
    whys = {id(one): why_no_grammar(one) for one in {id(o): o for o in found if o}.values()}
    if reasons := {str(why) for why in whys.values() if why}:
        context.warn(f"Decoding is not constrained where a schema has no grammar: {min(reasons)}")
    return [None if one is None or whys[id(one)] else one for one in found]


def ask_constrained(
    config: Config,
    student: Student,
    items: Sequence[Item],
    schemas: Sequence[Mapping[str, Any] | None],
    tick: Callable[[int, int], None],
    context: Context,
) -> Answers | None:
    """Ask the student the same items, each answer constrained; None where that is not possible."""
    options = config.evaluate
    try:
        return ask_folder(
            config.task,
            Path(student.path),
            items,
            max_new_tokens=options.max_new_tokens,
            batch_size=options.batch_size,
            tick=tick,
            schemas=schemas,
            decoder=options.decoder,
        )
    except ValueError as error:  # a tokenizer that llguidance cannot read
        context.warn(f"Decoding is not constrained: {error}")
        return None


def _is_bare(corpus: Path) -> bool:
    """Return whether the first answers of a corpus begin as JSON does."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(corpus) as file:
        batches = file.iter_batches(_N_LOOKED_AT, columns=["completion"])
        texts = [text for batch in islice(batches, 1) for text in batch.column(0).to_pylist()]
    return all(text.lstrip().startswith(("{", "[")) for text in texts)
