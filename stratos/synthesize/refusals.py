"""What became of refused training rows, and what to type to have them trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stratos.config import Config
from stratos.core.counted import counted
from stratos.synthesize.leaks import NEAR
from stratos.synthesize.strategy import Strategy
from stratos.synthesize.words import NGRAM, Leak


def advice(config: Config, strategy: Strategy, refused: Mapping[str, int]) -> Iterator[str]:
    """Yield a sentence for each kind of refusal that a setting changes.

    Args:
        config: of the run.
        strategy: that made the corpus.
        refused: reason to how many items.
    """
    noun = "row" if config.task.has_rows else "item"

    def were(n: int) -> str:
        return f"{counted(n, f'{noun} was', f'{noun}s were', spec=',')} not trained on"

    # Of questions that are drawn some are always those of the test; others take their place.
    is_drawn = strategy.makes_questions and not config.task.has_rows
    if (n := refused.get(Leak.EXACT, 0) + refused.get(Leak.CANONICAL, 0)) and not is_drawn:
        told = f"{were(n)}: the question is a validation or test question, too."
        if config.task.has_rows:
            told += " To train on it, take it out of the test questions (task.test_path)."
        yield told
    if (n := refused.get(Leak.OVERLAP, 0)) and not is_drawn:
        told = f"{were(n)}: {NGRAM} words in a row are also in a validation or test question."
        if config.task.has_rows:
            told += (
                " If these words are a phrase of your questions, and no copy, type "
                "task.compares_words=false."
            )
        yield told
    if n := refused.get(NEAR, 0):
        yield (
            f"{were(n)}: another one says nearly the same. strategy.near_duplicates=<share> sets "
            f"from which common share of words on (now {strategy.near_duplicate_share:g}); 0 "
            "keeps all."
        )
