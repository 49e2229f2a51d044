"""The student's own tokenizer: as an ordinary Hugging Face folder, template included."""

import random
from typing import Any

import pytest
from transformers import AutoTokenizer

from stratos.core.errors import StratosError
from stratos.distill.data import encode
from stratos.distill.tokenizer import CHAT_TEMPLATE, symbol_tokenizer, trained_tokenizer
from stratos.tasks.mahjong import DiscardTask, MahjongTask

TASK = MahjongTask()
N_QUESTIONS = 60


def test_symbols_survive_saving_and_loading(tmp_path):
    symbol_tokenizer(TASK.vocabulary()).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for item in TASK.items("validation", 40):
        ids = tokenizer(TASK.completion(item))["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert TASK.score(tokenizer.decode(ids), item).exact == 1


def test_equal_tiles_are_one_symbol():
    tokens = symbol_tokenizer(TASK.vocabulary()).tokenize("1123m4444p55z")
    assert tokens == ["11m", "2m", "3m", "4444p", "55z"]


@pytest.mark.parametrize("task", [TASK, DiscardTask()], ids=lambda task: task.name)
def test_the_chat_template_alone_rewrites_as_the_tokenizer_does(task):
    """GGUF has a chat template and a vocabulary, and nothing that rewrites."""
    from tokenizers import normalizers

    plain, bare = (symbol_tokenizer(task.vocabulary()) for _ in range(2))
    plain.chat_template = CHAT_TEMPLATE
    bare.backend_tokenizer.normalizer = normalizers.Sequence([])

    def ids(tokenizer: Any, *texts: str) -> list[int]:
        roles = [
            {"role": role, "content": text} for role in ("user", "assistant") for text in texts
        ]
        return list(tokenizer.apply_chat_template(roles)["input_ids"])

    for item in task.items("validation", N_QUESTIONS):
        texts = task.student_messages(item)[0]["content"], task.completion(item)
        assert ids(bare, *texts) == ids(plain, *texts)
    rng = random.Random(0)
    for _ in range(2000):
        text = "".join(rng.choices("123456789012345mpsz123mpsz /=>+-a\n", k=rng.randrange(40)))
        assert ids(bare, text) == ids(plain, text), text


def test_the_template_masks_what_the_student_writes():
    tokenizer = symbol_tokenizer(TASK.vocabulary())
    item = TASK.items("validation", 1)[0]
    chat = [*TASK.student_messages(item), {"role": "assistant", "content": TASK.completion(item)}]
    whole = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    data, n_left_out = encode(
        tokenizer, [TASK.student_messages(item)], [TASK.completion(item)], 1000
    )
    assert n_left_out == 0
    assert whole["input_ids"] == data.tokens.tolist()
    assert whole["assistant_masks"].index(1) == data.prompt_lengths[0]
    assert whole["input_ids"][-1] == tokenizer.eos_token_id


def test_a_tokenizer_is_trained_where_the_task_brings_none(tmp_path):
    texts = ["the quick brown fox", "the lazy dog", "naïve – ünïcödé 漢字"] * 20
    trained_tokenizer(texts, 400).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*texts[:3], "never seen: \t\n\x01 🀄"]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_documents_over_the_context_are_counted_and_left_out():
    tokenizer = symbol_tokenizer(TASK.vocabulary())
    items = TASK.items("validation", 10)
    chats = [TASK.student_messages(item) for item in items]
    completions = [TASK.completion(item) for item in items]
    lengths = encode(tokenizer, chats, completions, 10_000)[0].lengths
    limit = int(sorted(lengths)[4])
    data, n_left_out = encode(tokenizer, chats, completions, limit)
    assert n_left_out == sum(length > limit for length in lengths)
    assert max(data.lengths) <= limit
    with pytest.raises(StratosError, match="context"):
        encode(tokenizer, chats, completions, 3)


def test_a_pretrained_student_has_the_instruction_in_its_own_chat_template(tmp_path):
    from stratos.config import StudentConfig
    from stratos.distill.tokenizer import make_student, save_student

    made = make_student(StudentConfig("tiny", vocab_size=300), None, ["a lamp"], 0)
    save_student(*made, tmp_path / "start")
    start = StudentConfig("tiny", path=str(tmp_path / "start"))
    save_student(*make_student(start, None, [], 0, instruction="Sort it."), tmp_path / "told")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "told")
    chat = [{"role": "user", "content": "a lamp"}]
    asked = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert asked == "<user>Sort it.\n\na lamp<assistant>"
