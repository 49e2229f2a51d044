"""A language model of labels answers with one of them, whoever serves it."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served_bundle import CHATS, by_transformers, post, served

from stratos.deploy.bundle_server import answering
from stratos.deploy.engines.chat_request import AnswerForms
from stratos.deploy.engines.llamacpp import LlamaCpp
from stratos.deploy.engines.predictor import LabelServer, setting_of
from stratos.deploy.server import Server
from stratos.models.decode.label_scores import LabelAnswers, score_labels
from stratos.models.kinds import is_predictor, load_predictor
from stratos.models.pretrained import load_model, load_tokenizer
from stratos.records import ServingSetting

LABELS = LabelAnswers(("late", "late orders", "日本 \"x\" \\ 'y'\n🀄", "card_arrival"), 2.0)


@pytest.fixture(scope="module")
def labelled(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled") / "bundle"
    shutil.copytree(bundle, folder)
    LABELS.write(folder)
    return folder


@pytest.fixture(scope="module")
def scored(labelled: Path) -> Any:
    model, tokenizer = load_model(labelled, dtype="auto"), load_tokenizer(labelled)
    return score_labels(model, tokenizer, CHATS, LABELS.labels, batch_size=4)


def test_a_bundle_answers_with_the_likeliest_label(labelled, scored):
    answers = [answer.text for answer in LABELS.predictions(scored.logprobs_NL)]
    assert answering(labelled)(CHATS) == answers
    assert not set(by_transformers(labelled)) & {*LABELS.labels}


@pytest.fixture(scope="module")
def llama(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if (why := LlamaCpp().unusable()) is not None:
        pytest.skip(str(why))
    run = ServingSetting("llamacpp", slots=4, format="f32")
    with served(labelled, run, LlamaCpp.module, tmp_path_factory.mktemp("log")) as server:
        yield server


def test_llama_writes_labels_alone(llama, scored):
    for row, chat in enumerate(CHATS):
        for temperature in (0, 3):
            body = {"messages": chat, "temperature": temperature, "seed": row, "logprobs": True}
            status, answer = post(llama, **body)
            [choice] = answer["choices"]
            text = choice["message"]["content"]
            assert (status, choice["finish_reason"]) == (200, "stop")
            assert text in LABELS.labels
            # The likelihood of the model itself, where it took the tokens that are scored.
            tokens = choice["logprobs"]["content"]
            label = LABELS.labels.index(text)
            if len(tokens) == scored.label_tokens[label]:
                logprob = sum(token["logprob"] for token in tokens)
                assert logprob == pytest.approx(scored.logprobs_NL[row, label], abs=0.05)


def test_llama_refuses_other_forms_than_labels(llama):
    for more in ({"response_format": {"type": "json_object"}}, {"tools": [{"type": "function"}]}):
        status, answer = post(llama, messages=CHATS[0], **more)
        assert status == 400 and "does not have it" in answer["error"]["message"]


def test_labels_are_spelled_as_the_tokens_of_a_vocabulary_of_words(tmp_path):
    words = {"type": "WordLevel", "vocab": {"<u>": 0, "late": 1, "order": 2}, "unk_token": "<u>"}
    tokens = {"model": words, "pre_tokenizer": {"type": "WhitespaceSplit"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokens))
    LabelAnswers(("late", "late order")).write(tmp_path)
    [grammar] = AnswerForms(tmp_path).options(None).values()
    assert grammar.splitlines()[1] == 'start: "late" | "lateorder"'


@pytest.fixture(scope="module")
def own(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    run = setting_of(labelled, None)
    assert run is not None
    with served(labelled, run, LabelServer.module, tmp_path_factory.mktemp("log")) as server:
        yield server


def test_its_own_server_tells_how_likely_each_label_is(own, scored):
    predictions = LABELS.predictions(scored.logprobs_NL)
    for chat, expected, n_read in zip(CHATS, predictions, scored.prompt_tokens, strict=True):
        status, answer = post(own, messages=chat, logprobs=True, top_logprobs=4)
        assert answer["usage"]["prompt_tokens"] == n_read
        [choice] = answer["choices"]
        [token] = choice["logprobs"]["content"]
        assert (status, choice["message"]["content"]) == (200, expected.text)
        assert math.exp(token["logprob"]) == pytest.approx(expected.probability, abs=1e-5)
        shares = [math.exp(likely["logprob"]) for likely in token["top_logprobs"]]
        assert sum(shares) == pytest.approx(1) and len(shares) == 4


def test_a_text_that_is_longer_than_the_context_is_answered(own):
    chat = [{"role": "user", "content": "late orders " * 1000}]
    status, answer = post(own, messages=chat)
    assert status == 200 and answer["choices"][0]["message"]["content"] in LABELS.labels


def test_it_is_served_by_its_own_server_or_by_llama(labelled, bundle):
    for run in (None, ServingSetting("transformers"), ServingSetting("transformers-batching", 4)):
        setting = setting_of(labelled, run)
        assert setting is not None and setting.engine == "labels"
        assert setting_of(bundle, run) == run
    llama = ServingSetting("llamacpp", slots=8, format="q8_0")
    assert setting_of(labelled, llama) == llama


def test_it_is_read_as_other_students_of_labels_are(labelled, tmp_path):
    student = load_predictor(labelled)
    [answer] = student.predict(["How many orders?"])
    assert not is_predictor(labelled) and student.uses_torch
    student.save(tmp_path)
    assert load_predictor(tmp_path).predict(["How many orders?"]) == [answer]
