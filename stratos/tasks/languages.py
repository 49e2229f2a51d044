"""Language detection by letters and common words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

_COMMON = {
    "English": "the and of to is that for with this you was are not have please my your it in a",
    "German": "der die das und ist nicht ich mit ein eine den zu bitte wir auf von für im es sie",
    "French": "le la les et est je ne pas vous pour dans un une des du que avec nous mon sur",
    "Spanish": "el la los y es que no por con para una un las del mi se su muy por favor yo",
    "Italian": "il la che non per con una un sono di del mi ho è gli lo questo alla nel si",
    "Portuguese": "o a os que não para com uma um do da em por favor eu meu minha é se mais",
    "Dutch": "de het een en is niet ik van dat voor met op te mijn we zijn naar aan er graag",
}
_WORDS = {name: frozenset(words.split()) for name, words in _COMMON.items()}
_FEWEST = 2
"""Common words of a language that a text has to have before it counts."""
_WORD = re.compile(r"[^\W\d_]+")
_LONGEST = 2000
"""Characters of a text that are looked at."""


def language_of(text: str) -> str | None:
    """Return the language, or the script where that is not Latin; None where nothing tells."""
    text = text[:_LONGEST]
    script = _script(text)
    if script != "LATIN":
        return script.title() if script else None
    words = Counter(_WORD.findall(text.casefold()))
    hits = Counter({name: sum(words[word] for word in common) for name, common in _WORDS.items()})
    (first, n_first), (_, n_second) = hits.most_common(2)
    return first if n_first >= _FEWEST and n_first > n_second else None


def languages(texts: Iterable[str], least_share: float, least: int) -> dict[str, int]:
    """Return language to number of texts, the most frequent first; rare ones are left out.

    Args:
        texts: of which those that nothing tells of do not count.
        least_share: share of the texts that a language has to have.
        least: number of texts that it has to have.
    """
    found = Counter(name for name in map(language_of, texts) if name is not None)
    enough = max(least, least_share * sum(found.values()))
    return {name: n for name, n in found.most_common() if n >= enough}


def _script(text: str) -> str:
    """Return the first word of the name of most letters, such as LATIN or CYRILLIC; "" for none."""
    letters = Counter(character for character in text if character.isalpha())
    scripts: Counter[str] = Counter()
    for letter, n in letters.items():
        scripts[unicodedata.name(letter, "").partition(" ")[0]] += n
    return scripts.most_common(1)[0][0] if scripts else ""
