"""Cut a model's vocabulary to the tokens of a task: its tokenizer, its embedding and its head.

What is left computes the same. A text whose tokens all stay is encoded to the same tokens, and
their logits are those of the whole model. Any other text is encoded to other tokens that stay, and
decoded as before: bytes and single characters stay.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from stratos.core.errors import StratosError
from stratos.core.formats import listed
from stratos.models.pretrained.folder import load_tokenizer

_JSON, _CONFIG = "tokenizer.json", "tokenizer_config.json"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""A token of byte fallback."""
_SPACE = "▁"
"""What SentencePiece writes for a space."""
_TYPES = ("BPE", "Unigram", "WordPiece")
"""Models of a tokenizer that can be cut."""
_TABLES = {_JSON, _CONFIG, "chat_template.jinja", "special_tokens_map.json"}
"""Files of a tokenizer that state no vocabulary, or one that is rewritten here."""


class VocabularyError(StratosError):
    """A vocabulary that cannot be cut."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The vocabulary of the student cannot be cut: {why}. Train the whole model: "
            "student.fit.vocabulary=false"
        )


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a model that stay, and the tokenizer of them."""

    ids: np.ndarray
    """Their numbers in the whole model, ascending; their new ones are 0, 1, …"""
    n_before: int
    """Tokens of the whole tokenizer."""
    tokenizer: str = ""
    """Its `tokenizer.json`."""

    def renumbered(self, value: Any) -> Any:
        """Return a token's new number, or those of a list; None for a token that is not kept."""
        if isinstance(value, list):
            return [new for each in value if (new := self.renumbered(each)) is not None]
        index = int(np.searchsorted(self.ids, value))
        return index if index < len(self.ids) and self.ids[index] == value else None


def task_vocabulary(
    source: str,
    texts: Sequence[str],
    n_rows: int,
    *,
    share: float = 0.0,
    keep: Iterable[int] = (),
) -> Vocabulary:
    """Return the vocabulary of a task; without torch.

    Args:
        source: `tokenizer.json` of the whole model.
        texts: all that is to be encoded as before, special tokens written out.
        n_rows: rows of the embedding.
        share: of the other tokens, which stay too: the most frequent ones.
        keep: numbers of tokens that stay in any case.

    Raises:
        VocabularyError: the tokenizer is of another kind than `_TYPES`, or encodes a text
            otherwise once it is cut.
    """
    from tokenizers import Tokenizer

    whole = Tokenizer.from_str(source)
    whole.no_truncation()
    whole.no_padding()
    plain = json.loads(source)
    model = plain["model"]
    if model["type"] not in _TYPES:
        raise VocabularyError(f"its tokenizer is {model['type']}, not {listed(_TYPES, 'or')}")
    is_marked = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
    if model["type"] == "BPE" and is_marked:
        raise VocabularyError("its tokens have a mark of where they stand in a word")
    numbers = _numbers(model)
    encoded = [each.ids for each in whole.encode_batch_fast(list(texts), add_special_tokens=False)]
    added = [token["id"] for token in plain["added_tokens"]]
    used = {*keep, *added, *_always(model, numbers), *(id_ for ids in encoded for id_ in ids)}
    rest = [id_ for id_ in _by_frequency(model, numbers) if id_ not in used]
    used |= {*rest[: round(share * len(rest))]}
    if model["type"] == "BPE":
        used |= _on_the_way(model, numbers, used)
    ids = np.array(sorted(id_ for id_ in used if 0 <= id_ < n_rows))
    vocabulary = Vocabulary(ids, whole.get_vocab_size())
    cut = json.dumps(_cut_json(plain, numbers, vocabulary), ensure_ascii=False)
    vocabulary = replace(vocabulary, tokenizer=cut)
    _check(vocabulary, texts, encoded)
    return vocabulary


def _numbers(model: dict[str, Any]) -> dict[str, int]:
    """Return the number of each token of a tokenizer's model."""
    if model["type"] == "Unigram":
        return {token: id_ for id_, (token, _) in enumerate(model["vocab"])}
    return dict(model["vocab"])


def _always(model: dict[str, Any], numbers: dict[str, int]) -> Iterator[int]:
    """Yield the tokens by which every text can be written, and the one for what cannot be."""
    has_bytes = bool(model.get("byte_fallback"))
    mark = model["continuing_subword_prefix"] if model["type"] == "WordPiece" else ""
    for token, id_ in numbers.items():
        if has_bytes:
            # Written in bytes, a space that the tokenizer marks would not be read back as one.
            is_needed = token == _SPACE or bool(_BYTE.fullmatch(token))
        else:
            is_needed = len(token.removeprefix(mark)) == 1
        if is_needed or not (has_bytes or _is_writable(token, mark, numbers)):
            yield id_
    if model["type"] == "Unigram":
        # A character without a token costs as much as the worst token, and more.
        yield min(range(len(model["vocab"])), key=lambda id_: float(model["vocab"][id_][1]))
        if model.get("unk_id") is not None:
            yield model["unk_id"]
    elif model.get("unk_token") in numbers:
        yield numbers[model["unk_token"]]


def _is_writable(token: str, mark: str, numbers: dict[str, int]) -> bool:
    """Return whether each character of a token has a token of its own, as where it stands.

    Args:
        token: of a model that cannot write bytes.
        mark: of a token that goes on a word.
        numbers: of all tokens.
    """
    first = mark if mark and token.startswith(mark) else ""
    word = token.removeprefix(first)
    return first + word[:1] in numbers and all(mark + letter in numbers for letter in word[1:])


def _by_frequency(model: dict[str, Any], numbers: dict[str, int]) -> list[int]:
    """Return the tokens, the most frequent first in the texts that the tokenizer learnt from."""
    if model["type"] == "Unigram":
        return sorted(numbers.values(), key=lambda id_: -float(model["vocab"][id_][1]))
    if model["type"] == "WordPiece":
        return sorted(numbers.values())
    made = (numbers.get(first + second) for first, second in _merges(model))
    merged = dict.fromkeys(id_ for id_ in made if id_ is not None)
    return [*merged, *(id_ for id_ in sorted(numbers.values()) if id_ not in merged)]


def _merges(model: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the pairs that BPE merges, the first to be merged first."""
    for merge in model["merges"]:
        first, second = merge.split(" ") if isinstance(merge, str) else merge
        yield first, second


def _on_the_way(model: dict[str, Any], numbers: dict[str, int], ids: set[int]) -> set[int]:
    """Return the tokens that BPE makes on its way to some others.

    No merge crosses the ends of a token that stays to the end of a word. So inside of it, merges
    come in the order in which they come in the token alone. With all of them, and no others than
    before, a word whose tokens are kept is merged as before.
    """
    ranks = {pair: rank for rank, pair in reversed([*enumerate(_merges(model))])}
    way: set[int] = set()
    for token, id_ in numbers.items():
        if id_ not in ids:
            continue
        parts = list(token)
        while len(parts) > 1:
            way.update(numbers[part] for part in parts if part in numbers)
            rank, index = min(
                (ranks.get(pair, len(ranks)), index) for index, pair in enumerate(pairwise(parts))
            )
            if rank == len(ranks):
                break
            parts[index : index + 2] = [parts[index] + parts[index + 1]]
    return way


def _cut_json(
    plain: dict[str, Any], numbers: dict[str, int], vocabulary: Vocabulary
) -> dict[str, Any]:
    """Return a `tokenizer.json` with some tokens alone, renumbered."""
    model = dict(plain["model"])
    new = {int(id_): index for index, id_ in enumerate(vocabulary.ids)}
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][id_] for id_ in new if id_ < len(model["vocab"])]
        if model.get("unk_id") is not None:
            model["unk_id"] = new[model["unk_id"]]
    else:
        model["vocab"] = {token: new[id_] for token, id_ in numbers.items() if id_ in new}
    if model["type"] == "BPE":
        model["merges"] = [
            [first, second]
            for first, second in _merges(plain["model"])
            if {first, second, first + second} <= model["vocab"].keys()
        ]
    added = [
        {**token, "id": new[token["id"]]} for token in plain["added_tokens"] if token["id"] in new
    ]
    cut = {**plain, "model": model, "added_tokens": added, "padding": None, "truncation": None}
    cut["post_processor"] = _processor(plain.get("post_processor"), vocabulary)
    return cut


def _processor(processor: dict[str, Any] | None, vocabulary: Vocabulary) -> dict[str, Any] | None:
    """Return the step that puts special tokens around a text, with their new numbers."""
    if processor is None:
        return None
    made = dict(processor)
    if "processors" in made:
        made["processors"] = [_processor(part, vocabulary) for part in made["processors"]]
    if made["type"] == "TemplateProcessing":
        made["special_tokens"] = {
            name: {**token, "ids": vocabulary.renumbered(token["ids"])}
            for name, token in made["special_tokens"].items()
        }
    for name in ("cls", "sep"):
        if name in made:
            made[name] = [made[name][0], vocabulary.renumbered(made[name][1])]
    return made


def _check(vocabulary: Vocabulary, texts: Sequence[str], encoded: Sequence[list[int]]) -> None:
    """Check that all texts are encoded as before.

    Raises:
        VocabularyError: one is not.
    """
    from tokenizers import Tokenizer

    cut = Tokenizer.from_str(vocabulary.tokenizer)
    ids = cut.encode_batch_fast(list(texts), add_special_tokens=False)
    for before, after in zip(encoded, ids, strict=True):
        if before != vocabulary.ids[after.ids].tolist():
            raise VocabularyError("its tokenizer splits a text in another way once it is cut")


def cut_tokenizer(tokenizer: Any, vocabulary: Vocabulary) -> Any:
    """Return a tokenizer of transformers with the tokens of a vocabulary, and the same template."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer.save_pretrained(folder)
        for path in folder.iterdir():
            if path.name not in _TABLES:
                path.unlink()
        (folder / _JSON).write_text(vocabulary.tokenizer, encoding="utf-8")
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        if (decoder := config.pop("added_tokens_decoder", None)) is not None:
            new = {vocabulary.renumbered(int(id_)): token for id_, token in decoder.items()}
            new.pop(None, None)
            config["added_tokens_decoder"] = {str(id_): token for id_, token in new.items()}
        (folder / _CONFIG).write_text(json.dumps(config), encoding="utf-8")
        return load_tokenizer(folder)


def model_vocabulary(
    model: Any, tokenizer: Any, texts: Sequence[str], share: float = 0.0
) -> Vocabulary:
    """Return the vocabulary of a task for a model of transformers and its tokenizer.

    Args:
        model: names special tokens in its configs.
        tokenizer: of the model.
        texts: as `task_vocabulary` takes them.
        share: as `task_vocabulary` takes it.

    Raises:
        VocabularyError: it cannot be cut.
    """
    tables = {id(module.weight): module.weight for module in _tables(model)}
    n_rows = model.get_input_embeddings().weight.shape[0]
    sizes = {size for config in _configs(model) for size in _vocabulary_sizes(config)}
    more = [m.weight for m in model.modules() if getattr(m, "num_embeddings", None) in sizes]
    more += [w for w in model.parameters() if n_rows in w.shape]
    if any(id(w) not in tables for w in more):
        raise VocabularyError("its model has more tables of tokens than embedding and head")
    named = [id_ for config in _configs(model) for _, id_ in _named_tokens(config)]
    keep = {id_ for value in named for id_ in (value if isinstance(value, list) else [value])}
    source = tokenizer.backend_tokenizer.to_str()
    return task_vocabulary(source, texts, n_rows, share=share, keep=keep)


def cut_model(model: Any, vocabulary: Vocabulary) -> None:
    """Leave a model of transformers the rows of a vocabulary, in place.

    The logits of tokens that stay are as before, from ids that stay.
    """
    import torch

    rows, n = torch.from_numpy(vocabulary.ids), len(vocabulary.ids)
    embedding = model.get_input_embeddings()
    padding = embedding.padding_idx
    tables = {id(module.weight): module for module in _tables(model)}
    with torch.no_grad():
        for module in tables.values():
            module.weight[:n] = module.weight[rows.to(module.weight.device)]
            if getattr(module, "bias", None) is not None:
                module.bias[:n] = module.bias[rows.to(module.bias.device)]
    model.resize_token_embeddings(n)
    if padding is not None:
        embedding.padding_idx = vocabulary.renumbered(padding)
    for config in _configs(model):
        for name, value in list(_named_tokens(config)):
            setattr(config, name, vocabulary.renumbered(value))


def _tables(model: Any) -> list[Any]:
    """Return the embedding of a model, and its head."""
    both = model.get_input_embeddings(), model.get_output_embeddings()
    return [module for module in both if module is not None]


def _configs(model: Any) -> list[Any]:
    """Return the configs of a model that number tokens."""
    configs = (model.config, model.config.get_text_config(), model.generation_config)
    return list({id(config): config for config in configs if config is not None}.values())


def _vocabulary_sizes(config: Any) -> Iterator[int]:
    """Yield how many tokens a config says that there are, those of a table for each layer too."""
    for name, value in config.to_dict().items():
        if "vocab" in name and isinstance(value, int):
            yield value


def _named_tokens(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield the settings of a config that are numbers of tokens, with their values."""
    for name, value in config.to_dict().items():
        if name.endswith("_token_id") and value is not None:
            yield name, value
