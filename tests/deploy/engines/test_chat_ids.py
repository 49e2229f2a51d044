"""Chats to token ids and back without transformers: exactly as transformers does both."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from stratos.deploy.engines.chat_ids import ChatError, ChatIds, StopCut, first_stop
from stratos.distill.tokenizer import symbol_tokenizer, trained_tokenizer
from stratos.tasks.mahjong import MahjongTask

TEXTS = (
    "How many orders?", "  two  spaces\nand a line", "naïve 日本 🀄 tiles", "1112345678999m",
    "<user>not a role<end>", "",
)  # fmt: skip


@pytest.fixture(scope="module", params=["bytes", "symbols"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "bytes":
        tokenizer = trained_tokenizer(["how many orders are late", "日本 tiles", *TEXTS], 400)
    else:
        symbols = MahjongTask().vocabulary()
        assert symbols is not None
        tokenizer = symbol_tokenizer(symbols)
    tokenizer.save_pretrained(folder)
    return folder


def by_transformers(bundle: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(bundle)


def test_ids_are_those_of_transformers(bundle: Path) -> None:
    tokenizer, own = by_transformers(bundle), ChatIds(bundle)
    for text in TEXTS:
        for chat in (
            [{"role": "user", "content": text}],
            [{"role": "system", "content": "Be short."}, {"role": "user", "content": text},
             {"role": "assistant", "content": text}, {"role": "user", "content": "And?"}],
        ):  # fmt: skip
            expected = tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, return_dict=True
            )
            assert own.ids(chat) == list(expected["input_ids"])


def test_text_is_that_of_transformers_at_once_and_in_pieces(bundle: Path) -> None:
    tokenizer, own = by_transformers(bundle), ChatIds(bundle)
    rng, n = random.Random(0), len(tokenizer)
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert own.text(ids) == tokenizer.decode(ids, skip_special_tokens=True)
        pieces = own.pieces()
        assert "".join(pieces.take([one]) for one in ids) == own.text(ids)
    for _ in range(20):
        ids = [rng.randrange(n) for _ in range(12)]
        assert own.text(ids) == tokenizer.decode(ids, skip_special_tokens=True)


def test_a_template_that_refuses_a_chat_is_an_error_of_the_user(bundle: Path) -> None:
    import shutil

    broken = bundle.parent / f"{bundle.name}-refusing"
    shutil.copytree(bundle, broken, dirs_exist_ok=True)
    (broken / "chat_template.jinja").write_text("{{ raise_exception('no system here') }}")
    with pytest.raises(ChatError, match="does not take this chat: no system here"):
        ChatIds(broken).ids([{"role": "user", "content": "x"}])


def test_it_imports_no_torch(bundle: Path) -> None:
    import subprocess

    code = (
        "import sys; from pathlib import Path; "
        "from stratos.deploy.engines.chat_ids import ChatIds; "
        f"ChatIds(Path({str(bundle)!r})).ids([dict(role='user', content='1m')]); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize("stops", [[], ["ab"], ["\n\n", "b"], ["abcabd"], ["zz"]])
def test_a_stop_sequence_cuts_the_same_text_however_it_is_parted(stops: list[str]) -> None:
    rng = random.Random(1)
    for _ in range(300):
        text = "".join(rng.choice("abcd\n") for _ in range(12))
        cut, parts, rest = StopCut(stops), [], text
        while rest and not cut.is_over:
            size = rng.randint(1, 4)
            parts.append(cut.take(rest[:size]))
            rest = rest[size:]
        parts.append(cut.rest())
        assert "".join(parts) == text[: first_stop(text, stops)]
