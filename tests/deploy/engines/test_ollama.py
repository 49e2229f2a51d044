"""A Modelfile writes chats as the bundle does, or there is none."""

import pytest
from served_bundle import CHATS, make_bundle

from stratos.deploy.engines.base import export_path
from stratos.deploy.engines.chat_ids import ChatIds
from stratos.deploy.engines.gguf_file import has_tokenizer, write_gguf
from stratos.deploy.engines.llamacpp import LlamaCpp
from stratos.deploy.engines.ollama import MODELFILE, chat_format
from stratos.distill.tokenizer import symbol_tokenizer, trained_tokenizer
from stratos.tasks.chat import instruct
from stratos.tasks.mahjong import MahjongTask

pytestmark = pytest.mark.skipif(
    LlamaCpp().unusable() is not None, reason=str(LlamaCpp().unusable())
)
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are small.<|im_end|>\\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""As SmolLM2 has it."""


def test_a_student_of_byte_pairs_has_a_modelfile(bundle, snapshot):
    note = LlamaCpp().write_settings(bundle, "q8_0", CHATS)
    assert note.endswith("alone; Ollama takes exports/Modelfile.")
    assert (bundle / MODELFILE).read_text() == snapshot


def test_a_student_of_rewritten_symbols_has_none(tmp_path):
    task = MahjongTask()
    chats = [task.student_messages(item) for item in task.items("validation", 3)]
    tokenizer = symbol_tokenizer(task.vocabulary())
    bundle = make_bundle(tmp_path / "b", ("f32",), tokenizer=tokenizer, chats=chats)
    note = LlamaCpp().write_settings(bundle, "f32", chats)
    assert note == (
        "llama-server and LM Studio load f32.gguf alone. Ollama does not: its templates cannot "
        "write these chats."
    )
    assert not (bundle / MODELFILE).exists()


def test_a_file_without_a_tokenizer_is_for_no_other_program(bundle, tmp_path):
    write_gguf(bundle, tmp_path / "f16.gguf", "f16", ids_only=True)
    assert not has_tokenizer(tmp_path / "f16.gguf")
    assert has_tokenizer(export_path(bundle, "q8_0.gguf"))


@pytest.mark.parametrize("instruction", ["", "Sort it."])
def test_chat_formats_are_read_from_templates(tmp_path, instruction, snapshot):
    tokenizer = trained_tokenizer(["a lamp"] * 3, 320)
    tokenizer.chat_template = CHATML
    instruct(tokenizer, instruction)
    tokenizer.save_pretrained(tmp_path)
    made = chat_format(ChatIds(tmp_path), CHATS)
    assert made is not None and made.template() == snapshot


@pytest.mark.parametrize(
    "template",
    [
        CHATML.replace("message['content'] +", "message['content']|trim +"),
        CHATML.replace("message['content'] +", "message['content']|upper +"),
        "{{ messages[-1]['content'] }}",
        "{{ raise_exception('no') }}",
    ],
)
def test_templates_that_do_more_have_no_format(tmp_path, template):
    tokenizer = trained_tokenizer(["a lamp"] * 3, 320)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path)
    assert chat_format(ChatIds(tmp_path), CHATS) is None
