"""The instruction in a student's chat template, where a system message of a client replaces it."""

from __future__ import annotations

import pytest

from stratos.tasks.chat import instruct

TOLD = 'Classify "the text".\nThe labels are: ünö, b\\c.'
QUESTION = [{"role": "user", "content": "my lamp"}]
SYSTEM = {"role": "system", "content": "Be brief."}

WITH_DEFAULT = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "[system]You help.{% endif %}[{{ message['role'] }}]{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
REFUSING = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ raise_exception('no system') }}{% endif %}[{{ message['role'] }}]{{ message['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
SILENT = (
    "{% for message in messages %}{% if message['role'] != 'system' %}[{{ message['role'] }}]"
    "{{ message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


ASKED = "[user]my lamp[assistant]"


def rendered(template: str, chat: list[dict[str, str]], told: str = TOLD) -> str:
    tokenizer = tokenizer_with(template)
    instruct(tokenizer, told)
    return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))


def tokenizer_with(template: str):
    from stratos.distill.tokenizer import trained_tokenizer

    tokenizer = trained_tokenizer(["my lamp"], 300)
    tokenizer.chat_template = template
    return tokenizer


def test_the_instruction_takes_the_place_of_a_default_system_message():
    assert rendered(WITH_DEFAULT, QUESTION) == f"[system]{TOLD}[user]my lamp[assistant]"
    assert rendered(WITH_DEFAULT, QUESTION, "") == f"[system]You help.{ASKED}"


@pytest.mark.parametrize("told", ["Hello 😀", "漢 𠀀 \u2028", "{{ 7*7 }} %} {# x", "a\\u0041"])
def test_every_character_of_an_instruction_is_asked_as_it_is(told):
    text = rendered(WITH_DEFAULT, QUESTION, told)
    assert text == f"[system]{told}[user]my lamp[assistant]"
    assert tokenizer_with(WITH_DEFAULT)(text)["input_ids"]


def test_half_a_character_of_an_instruction_is_replaced():
    assert rendered(WITH_DEFAULT, QUESTION, "a\ud800") == f"[system]a?{ASKED}"


def test_a_system_message_of_a_client_takes_the_place_of_the_instruction():
    chat = [SYSTEM, *QUESTION]
    assert rendered(WITH_DEFAULT, chat) == f"[system]Be brief.{ASKED}"


@pytest.mark.parametrize("template", [REFUSING, SILENT])
def test_a_template_without_a_system_message_has_it_before_the_question(template):
    assert rendered(template, QUESTION) == f"[user]{TOLD}\n\nmy lamp[assistant]"
    own = "[user]Be brief.\n\nmy lamp[assistant]"
    assert rendered(template, [SYSTEM, *QUESTION]) == own
    turns = [*QUESTION, {"role": "assistant", "content": "x"}, {"role": "user", "content": "more"}]
    assert rendered(template, turns) == f"[user]{TOLD}\n\nmy lamp[assistant]x[user]more[assistant]"


def test_a_student_that_is_trained_again_has_the_new_instruction():
    tokenizer = tokenizer_with(WITH_DEFAULT)
    for told in ("old", "new"):
        instruct(tokenizer, told)
    text = tokenizer.apply_chat_template(QUESTION, tokenize=False)
    assert text == "[system]new[user]my lamp"


def test_a_student_of_random_weights_leaves_a_system_message_out():
    from stratos.distill.tokenizer import trained_tokenizer

    tokenizer = trained_tokenizer(["my lamp"], 300)
    render = tokenizer.apply_chat_template
    bare = render(QUESTION, tokenize=False, add_generation_prompt=True)
    assert bare == "<user>my lamp<assistant>"
    assert render([SYSTEM, *QUESTION], tokenize=False, add_generation_prompt=True) == bare


def test_a_task_without_an_instruction_tells_nothing():
    from stratos.tasks.mahjong import MahjongTask

    assert MahjongTask().system_prompt == ""


def test_the_labels_are_in_the_instruction_of_a_classification(tmp_path):
    import json

    from stratos.tasks.classify import ClassifyTask

    path = tmp_path / "t.jsonl"
    rows = [{"text": f"ticket {i}", "label": "ab"[i % 2]} for i in range(20)]
    path.write_text("\n".join(map(json.dumps, rows)))
    task = ClassifyTask(str(path), instruction="Sort it.")
    assert task.system_prompt == "Sort it. The labels are: a, b."
