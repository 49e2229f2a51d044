"""White-box strategies: the student learns a teacher's distribution, on its text or on its own."""

from typing import Any

import numpy as np
import pytest
import torch
from completion_server import MODEL, CompletionServer
from process import interrupted

from stratos.config import StudentConfig
from stratos.core.errors import BudgetError
from stratos.distill.data import Encoded, OnPolicyLoader, PackedLoader
from stratos.distill.words import OtherInputs
from stratos.records import corpus_rows
from stratos.synthesize.alignment import AlignmentLogits, AlignmentOnPolicy
from stratos.synthesize.injection import Injection
from stratos.tasks.mahjong import MahjongTask
from stratos.teachers.huggingface import HuggingFaceTeacher
from stratos.teachers.openai import OpenAITeacher


@pytest.fixture(scope="session")
def expert(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceTeacher:
    """A teacher with other random weights than the student's."""
    from stratos.distill.tokenizer import make_student, save_student
    from stratos.tasks.mahjong import MahjongTask

    folder = tmp_path_factory.mktemp("expert")
    config = StudentConfig("e", hidden_size=32, n_layers=2, n_heads=2, intermediate_size=64)
    save_student(*make_student(config, MahjongTask().vocabulary(), [], 9), folder)
    return HuggingFaceTeacher("expert", path=str(folder), dtype="float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy",
    [
        AlignmentLogits(),
        AlignmentLogits(cache="topk", top_k=400),
        AlignmentLogits(hidden_match=0.1),
        AlignmentOnPolicy(lmbda=0.5, buffer_steps=2, max_new_tokens=12),
    ],
    ids=["logits", "cached", "layers", "on_policy"],
)
def test_the_student_comes_closer_to_its_teacher(run_distill, expert, strategy, tmp_path):
    student = run_distill(
        tmp_path, strategies=(strategy,), teachers=(expert,), precision="fp32", batch_tokens=1500
    )
    losses = [point.loss for point in student.curve]
    assert 0 <= losses[-1] < 0.8 * losses[0]


class Wordless(MahjongTask):
    """The same questions, for students that have a tokenizer trained."""

    def vocabulary(self) -> None:
        return None


@pytest.mark.slow
@pytest.mark.parametrize("room", [2_000, 100])
def test_a_student_without_a_tokenizer_reads_in_its_teacher_s(
    run_distill, corpus_path, tmp_path, room
):
    """One that is trained on other texts would have other tokens, and nothing to compare."""
    from transformers import AutoTokenizer, GenerationConfig

    from stratos.distill.tokenizer import make_student, save_student

    small = StudentConfig(
        "s", hidden_size=32, n_layers=1, n_heads=2, intermediate_size=64, vocab_size=room
    )
    texts = [row.completion for row in corpus_rows(corpus_path)]
    config = StudentConfig(
        "e", hidden_size=32, n_layers=2, n_heads=2, intermediate_size=64, context_length=2048
    )
    model, tokenizer = make_student(config, None, texts[:20], 9)
    path = str(tmp_path / "expert")
    model.generation_config.eos_token_id = [3, 7]  # as a model whose turns end in a token of theirs
    save_student(model, tokenizer, path)
    teacher = HuggingFaceTeacher("expert", path=path, dtype="float32")
    warnings: list[str] = []
    student = run_distill(
        tmp_path,
        strategies=(AlignmentLogits(),),
        teachers=(teacher,),
        task=Wordless(),
        student=small,
        max_tokens=6000,
        warnings=warnings,
    )
    read = [AutoTokenizer.from_pretrained(path) for path in (student.path, teacher.path)]
    assert read[0].get_vocab() == read[1].get_vocab()
    told = [text for text in warnings if "student.vocab_size" in text]
    assert len(told) == (room == 100)
    ends = [GenerationConfig.from_pretrained(path).eos_token_id for path in (student.path, path)]
    assert set(ends[0]) == {*ends[1], read[0].eos_token_id}, "it ends where its teacher does"
    # Its text alone is learnt in tokens of its own.
    text = run_distill(
        tmp_path / "text", teachers=(teacher,), task=Wordless(), student=small, max_tokens=6000
    )
    own = AutoTokenizer.from_pretrained(text.path)
    assert own.get_vocab() != read[0].get_vocab()


def paid(server: CompletionServer) -> OpenAITeacher:
    return OpenAITeacher(
        "served",
        model=MODEL,
        base_url=server.base_url,
        api_key_env=None,
        usd_per_million_input_tokens=1_000.0,
    )


@pytest.mark.slow
def test_a_signal_beyond_the_budget_is_refused_only_where_it_was_asked_for(
    run_distill, expert, tmp_path
):
    """A strategy that the plan chose falls to the verified text; one that was named does not."""
    logits, warnings = AlignmentLogits(cache="topk", top_k=4), list[str]()
    with CompletionServer(*expert.load()) as server:
        served = paid(server)
        asked: dict[str, Any] = {"teachers": (served,), "budget_usd": 1.0, "max_tokens": 4000}
        with pytest.raises(BudgetError, match=r"200 documents .* and \$1.0000 is left"):
            run_distill(tmp_path, strategies=(logits,), **asked)
        student = run_distill(
            tmp_path, strategies=(logits, Injection()), warnings=warnings, **asked
        )
        assert server.requests == []
    (told,) = warnings
    assert "200 documents is expected to cost $" in told and "$1.0000 is left" in told
    assert student.cut_at_usd == 1.0, "more money may buy the signal"
    assert student.steps > 0


@pytest.mark.slow
def test_what_learnt_from_text_for_want_of_money_starts_anew_where_there_is_more(
    run_distill, expert, tmp_path, monkeypatch
):
    """No student is half of text and half of the signal, and said to be of one."""
    logits, warnings = AlignmentLogits(cache="topk", top_k=4), list[str]()
    with CompletionServer(*expert.load()) as server:
        served = paid(server)
        asked: dict[str, Any] = {
            "teachers": (served,),
            "strategies": (logits, Injection()),
            "max_tokens": 20_000,
        }
        with monkeypatch.context() as patch:
            interrupted(run_distill, tmp_path, patch, budget_usd=1.0, **asked)
            assert (tmp_path / "distill" / "cut_at_usd.txt").read_text() == "1.0"
        student = run_distill(tmp_path, budget_usd=1_000.0, warnings=warnings, **asked)
        assert server.requests
    assert (student.n_resumed, student.cut_at_usd) == (0, None)
    (told,) = [text for text in warnings if "checkpoint" in text]
    assert str(OtherInputs.NO_SIGNAL) in told
    assert not (tmp_path / "distill" / "cut_at_usd.txt").exists()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_layers_are_matched_by_projections_that_are_trained(expert, tmp_path, checkpointing):
    """The loss is the divergence and the plain mean over layers; both sides get gradients."""
    from stratos.config import TrainerConfig
    from stratos.core.context import Context
    from stratos.distill.module import StudentModule
    from stratos.distill.signal.source import open_source
    from stratos.distill.tokenizer import make_student
    from stratos.ledger import Ledger
    from stratos.tasks.mahjong import MahjongTask

    config = StudentConfig("s", hidden_size=16, n_layers=1, n_heads=2, intermediate_size=32)
    model, tokenizer = make_student(config, MahjongTask().vocabulary(), [], 1)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    data, strategy = make_data(), AlignmentLogits(hidden_match=0.7)
    where = Context(tmp_path, tmp_path, Ledger(tmp_path / "ledger"))
    source = open_source(expert, strategy.signal, tokenizer, data, where)
    torch.manual_seed(0)
    module = StudentModule(model, TrainerConfig(), 10, source, strategy.signal.to_minimize(), 0.7)
    plain = StudentModule(model, TrainerConfig(), 10, source, strategy.signal.to_minimize())
    batch = next(iter(PackedLoader(data, 40, 600, 5)))
    losses = []
    for one in (module, plain):
        one.on_fit_start()
        losses.append(one.loss(batch))
    match = module.learner.match
    assert match is not None and match.pairs == [(1, 2)] and plain.learner.match is None
    given = source.signal(batch)
    out = model.base_model(
        input_ids=batch.tokens_1N,
        position_ids=batch.positions_1N,
        documents=batch.documents,
        use_cache=False,
    )
    said = out.last_hidden_state[0, batch.rows_M] @ match.projections[0].weight.T
    wanted = given.hidden_NH[given.rows_M]
    error = ((said - wanted) ** 2).mean(1) / (wanted**2).mean(1)
    expected = losses[1] + 0.7 * error.sum() / batch.n_tokens
    torch.testing.assert_close(losses[0], expected, atol=1e-6, rtol=1e-6)
    losses[0].backward()
    trained = {id(weight) for part in module.split_parameters() for weight in part}
    assert {id(weight) for weight in module.parameters()} == trained
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in match.parameters())
    module.on_fit_end()
    source.close()


def test_what_lost_layers_is_matched_where_the_whole_has_the_same_ones():
    """Without projections; up to the first layer that went nothing is left to learn."""
    from stratos.config import TrainerConfig
    from stratos.distill.module import TEXT, StudentModule
    from stratos.distill.signal.local import LocalSource, Reader
    from stratos.distill.tokenizer import make_student
    from stratos.models.pretrained.depth import keep_layers

    config = StudentConfig("w", hidden_size=16, n_layers=5, n_heads=2, intermediate_size=32)
    whole, short = (make_student(config, MahjongTask().vocabulary(), [], 3)[0] for _ in range(2))
    kept, batch = (0, 1, 3, 4), next(iter(PackedLoader(make_data(), 40, 600, 5)))
    keep_layers(short, kept)
    source = LocalSource(Reader(whole.eval(), config.vocab_size, 40, keeps_layers=True))
    losses = []
    for weight in (0.0, 0.7):
        module = StudentModule(short, TrainerConfig(), 10, source, TEXT, weight, layer_indices=kept)
        module.on_fit_start()
        losses.append(module.loss(batch))
    match = module.learner.match
    assert match is not None and match.pairs == [(1, 1), (2, 2), (3, 4)]
    assert not list(match.parameters())
    inputs = {"position_ids": batch.positions_1N, "documents": batch.documents}
    states = module.model.base_model(
        input_ids=batch.tokens_1N, output_hidden_states=True, **inputs
    ).hidden_states
    layers = source.signal(batch).layers_LNH
    error = ((states[3][0] - layers[4]) ** 2).mean(1) / (layers[4] ** 2).mean(1)
    for same in (1, 2):
        torch.testing.assert_close(states[same][0, batch.rows_M], layers[same][batch.rows_M])
    expected = losses[0] + 0.7 * error[batch.rows_M].sum() / batch.n_tokens / 3
    torch.testing.assert_close(losses[1], expected, atol=1e-6, rtol=1e-6)
    module.on_fit_end()


def make_data(n: int = 40) -> Encoded:
    rng = np.random.default_rng(0)
    lengths = rng.integers(6, 14, n)
    return Encoded(
        tokens=rng.integers(0, 50, lengths.sum()).astype(np.int32),
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        prompt_lengths=np.full(n, 3),
    )


def make_loader(data: Encoded, lmbda: float, asked: list[int], **parts: int) -> OnPolicyLoader:
    def write(prompts: Any) -> list[list[int]]:
        asked.append(len(prompts))
        return [[60 + len(asked), int(prompt[0])] for prompt in prompts]

    return OnPolicyLoader(data, 40, 600, 5, write=write, lmbda=lmbda, buffer_steps=3, **parts)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_share_of_the_steps_is_the_students_own(accumulate):
    data, asked = make_data(), []
    loader = make_loader(data, 0.5, asked, accumulate=accumulate)
    rows = list(loader)
    own = [row for row in rows if row.written]
    assert 0.2 < len(own) / len(rows) < 0.8
    assert 0 < len(asked) <= -(-len(own) // (3 * accumulate)) + 1, "written ahead, in one batch"
    for row in own:
        for place, document in enumerate(row.document_ids_D):
            text = row.tokens_1N[0][place * 5 : place * 5 + 5].tolist()
            assert text[:3] == data.prompt(document).tolist(), "the corpus's prompt"
            assert text[3] > 60 and text[4] == text[0], "and what was written behind it"
        assert len(row.rows_M) == 2 * len(row.document_ids_D)
    for step in range(0, len(rows), accumulate):
        parts = rows[step : step + accumulate]
        learned = sum(len(row.rows_M) for row in parts if len(row.document_ids_D))
        assert {row.n_tokens for row in parts if row.written} <= {learned / accumulate}
    plain = list(PackedLoader(data, 40, 600, 5, accumulate=accumulate))
    for row, corpus in zip(rows, plain, strict=True):
        assert row.written or torch.equal(row.tokens_1N, corpus.tokens_1N)
    assert not any(row.written for row in make_loader(data, 0.0, []))
    assert all(row.written for row in make_loader(data, 1.0, []))


def test_texts_that_wait_are_part_of_the_state():
    data = make_data()
    whole = [row.tokens_1N for row in make_loader(data, 1.0, [])]
    for stop in (1, 2, 3, 5):
        asked: list[int] = []
        first = make_loader(data, 1.0, asked)
        iterator = iter(first)
        seen = [next(iterator).tokens_1N for _ in range(stop)]
        second = make_loader(data, 1.0, asked)
        second.load_state_dict(first.state_dict())
        seen += [row.tokens_1N for row in second]
        assert len(seen) == len(whole)
        assert all(torch.equal(a, b) for a, b in zip(seen, whole, strict=True))


@pytest.mark.slow
def test_on_policy_goes_on_to_the_same_weights(run_distill, expert, tmp_path, monkeypatch):
    strategy = AlignmentOnPolicy(lmbda=0.7, buffer_steps=3, max_new_tokens=12)
    settings = {
        "strategies": (strategy,),
        "teachers": (expert,),
        "accumulate": 2,
        "precision": "fp32",
    }
    whole = run_distill(tmp_path / "whole", **settings)
    interrupted(run_distill, tmp_path / "stopped", monkeypatch, **settings)
    resumed = run_distill(tmp_path / "stopped", **settings)
    assert resumed.n_resumed == 1
    assert resumed.weights_sha256 == whole.weights_sha256
