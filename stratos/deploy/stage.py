"""The stage: bundle the student, serve it here, ask it over HTTP, and write its service file."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stratos.config import Config
from stratos.core.atomic_files import replacing, write_atomically
from stratos.core.context import Context
from stratos.core.errors import StratosError
from stratos.core.formats import counted, with_items
from stratos.core.names import named
from stratos.deploy.bundle_server import ALONE, context_of, serve_command, serving_bundle
from stratos.deploy.card import card_name, model_card, with_exports, with_speed
from stratos.deploy.engines.base import ExportError
from stratos.deploy.engines.predictor import setting_of
from stratos.deploy.exports import chosen_format, make_exports, write_exports
from stratos.deploy.manifest import N_KNOWN, Known, write_known, write_manifest
from stratos.deploy.server import ServeError, check_free
from stratos.deploy.service import WHEELS, service_files, write_wheels
from stratos.deploy.trial import (
    Asking,
    Plans,
    engine_here,
    planned_per_s,
    setting_here,
    try_server,
    with_format,
)
from stratos.deploy.words import AnswersDiffer, LatencyMissed
from stratos.distill.kind_training import with_test_rows
from stratos.estimate.cards import card_of_student
from stratos.evaluate.answer_files import KeptAnswer, read_answers, room_for_answers
from stratos.models.kinds import load_predictor
from stratos.models.kinds.base import ENCODER, FILE, LABELS, is_predictor
from stratos.models.kinds.base import WEIGHTS as PREDICTOR_WEIGHTS
from stratos.models.pretrained import load_tokenizer
from stratos.plan.options.workload import rates_of
from stratos.records import (
    Corpus,
    Deployment,
    Export,
    Exports,
    LoadResult,
    Pilot,
    Plan,
    Probe,
    Scorecard,
    ServingSetting,
    Student,
)
from stratos.synthesize.strategy import kind_of


def deploy(
    config: Config,
    plan: Plan,
    scorecard: Scorecard,
    student: Student,
    context: Context,
    *,
    probe: Probe | None = None,
    pilot: Pilot | None = None,
    corpus: Corpus | None = None,
) -> Deployment | None:
    """Make the bundle, load-test it on a server here, and write the planned server's service file.

    Args:
        config: of the run.
        plan: names teacher, student, strategy and the servers.
        scorecard: the measurements, with the answers that the server's are compared with.
        student: what was trained.
        context: folder and ledger of the run.
        probe: what was read before the plan, for the card.
        pilot: short trainings before the plan, for the card.
        corpus: what the student was trained on, for the card.

    Returns:
        What the server showed; None for `deploy=none`.

    Raises:
        StratosError: the student cannot be bundled, or the server does not start or answer.
    """
    if config.deploy.is_off:
        return None
    started = time.perf_counter()
    context = replace(context, tick=with_items(context.tick))
    # A server that is kept has the port that was asked for, and may have it now.
    port = 0 if config.deploy.keep else config.deploy.port
    if port:
        check_free(port)
    bundle = context.run_dir / "bundle"
    kept = read_answers(context.run_dir, scorecard)
    served, n_learnt = Path(student.path), 0
    if corpus is not None:
        again = context.run_dir / "deploy" / "student"
        served, n_learnt = with_test_rows(config, student, corpus, again)
    asked = kept[: max(config.deploy.n_requests, N_KNOWN)]
    if n_learnt:
        asked = _answered_by(served, asked)
    known, asked = asked[:N_KNOWN], asked[: config.deploy.n_requests]
    room = room_for_answers(kept, config.evaluate.max_new_tokens)

    context.tick(0, len(asked), "bundle")
    card = model_card(
        config,
        plan,
        scorecard,
        student,
        corpus,
        kept,
        probe,
        pilot,
        n_learnt,
    )
    make_bundle(served, bundle, card=card, max_new_tokens=config.evaluate.max_new_tokens)
    write_known(
        bundle,
        [Known(one.messages, one.text, one.gold, one.score.exact >= 1.0, room) for one in known],
    )
    run, exports = _engine_and_exports(config, plan, bundle, kept, context)
    run = setting_of(bundle, run) or ALONE
    window = context_of(bundle)
    servers = with_format(plan.roles_of("serve"), run)
    servers = tuple(replace(one, run=setting_of(bundle, one.run)) for one in servers)
    folder = context.run_dir / "deploy"
    files = [
        (folder / name, text)
        for name, text in service_files(
            servers, card_name(config, student), bundle.absolute(), (folder / WHEELS).absolute()
        )
    ]
    try:
        write_wheels(servers, folder / WHEELS)
    except StratosError as error:  # all else of the stage is as good without it
        context.warn(f"{folder / WHEELS} has no wheel for the servers: {error}")
    for path, text in files:
        write_atomically(path, text.encode())
    service = files[0][0]

    context.tick(0, len(asked), "server starts")
    chosen = named(config.students, plan.student)
    rate, shares = config.traffic.requests_per_s, plan.role("serve").traffic
    plans = Plans(
        card=None if is_predictor(bundle) else card_of_student(chosen, config.task),
        task=config.task.name,
        strategy=kind_of(config.strategies, plan.strategy),
        run=run,
        planned_per_s=planned_per_s(plan, rates_of(config, len(shares)) if rate else None),
        cache_dir=context.cache_dir,
        limit_ms=config.limits.latency_ms,
        offer=plan.role("serve").offer,
        count=plan.role("serve").count,
        planned_run=plan.role("serve").run,
    )
    log_path = context.run_dir / "deploy" / "server.log"
    with serving_bundle(bundle, run, log_path, port=port) as server:
        asking = Asking(
            server,
            [answer.messages for answer in asked],
            config.evaluate.max_new_tokens,
            config.deploy.load_seconds,
            config.seed,
            context.tick,
            run.slots,
        )
        trial = try_server(asking, plans, config.deploy.concurrency)

    test = trial.closed
    p95_ms, limit_ms = test.latency_ms(0.95), config.limits.latency_ms
    deployment = Deployment(
        bundle_path=str(bundle),
        server=serve_command(str(bundle), run=run, context=window),
        n_requests=len(asked),
        n_equal=sum(
            served.text == answer.text for served, answer in zip(test.answers, asked, strict=True)
        ),
        latency_p50_ms=test.latency_ms(0.5),
        latency_p95_ms=p95_ms,
        tokens_per_s=test.tokens_per_s,
        service_path=str(service),
        bundle_bytes=0,
        seconds=0.0,
        meets_latency_limit=None if limit_ms is None else p95_ms <= limit_ms,
        run=run,
        answer_ms=trial.answer_ms,
        load=trial.load,
        load_note=trial.load_note,
        others_cores=trial.others_cores,
        was_busy=trial.was_busy,
        exports=exports,
        memory_gib=trial.memory_gib,
        n_rows_learnt=n_learnt,
    )
    card = with_exports(with_speed(card, deployment), exports)
    write_atomically(bundle / "README.md", card.encode())
    write_manifest(bundle)
    deployment = replace(
        deployment,
        bundle_bytes=sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file()),
        seconds=time.perf_counter() - started,
    )
    _warn(deployment, limit_ms, context)
    context.log(
        {
            "deploy/latency_p50_ms": deployment.latency_p50_ms,
            "deploy/latency_p95_ms": p95_ms,
            "deploy/tokens_per_s": deployment.tokens_per_s,
            "deploy/equal": deployment.n_equal / deployment.n_requests,
            **_logged(trial.load),
        }
    )
    return deployment


def _engine_and_exports(
    config: Config, plan: Plan, bundle: Path, kept: Sequence[KeptAnswer], context: Context
) -> tuple[ServingSetting, Exports | None]:
    """Make the exports of the engine; return how the bundle is served, and what they answered.

    Where the plan chose the engine, transformers stands in for it if no export can be served.

    Raises:
        StratosError: the engine that was asked for cannot serve the student as it was asked to.
    """
    is_planned, least = config.deploy.engine is None, config.limits.accuracy
    own = setting_of(bundle, plan.role("serve").run)
    if own is not None and is_predictor(bundle):
        return own, None
    try:
        engine = engine_here(config.deploy, plan)
    except ExportError as error:
        context.warn(f"transformers serves the student: {error}")
        return ALONE, None
    if engine is None or not engine.exports:
        return setting_here(plan, engine), None
    # A limit is about all items of the evaluation, so that all are asked.
    asked = kept if least is not None else kept[: config.deploy.n_export_items]
    try:
        exports = make_exports(
            bundle,
            engine,
            asked,
            config.task,
            context,
            max_tokens=config.evaluate.max_new_tokens,
            max_loss_points=config.deploy.max_loss_points,
            n_evaluated=len(kept),
            may_change=is_planned,
            least_accuracy=least,
            minutes=config.deploy.export_minutes,
        )
    except (ExportError, ServeError) as error:
        if not is_planned:
            raise
        context.warn(f"transformers serves the student, and not {engine.title}: {error}")
        return ALONE, None
    if exports is None:
        return ALONE, None
    form = chosen_format(engine, exports, context, least_accuracy=least, may_change=is_planned)
    exports = replace(exports, served=form or "")
    write_exports(bundle, exports)
    run = setting_here(plan, engine)
    return (ALONE if form is None else replace(run, format=form)), exports


def _logged(load: LoadResult | None) -> dict[str, float]:
    if load is None:
        return {}
    return {
        "deploy/load_requests_per_s": load.requests_per_s,
        "deploy/load_p95_ms": load.latency_p95_ms,
        "deploy/capacity_per_s": load.capacity_per_s,
    }


def _why_other(served: Export | None) -> str:
    if served is None:
        return "A few may: rounding differs with the size of a batch."
    return (
        f"{served.format} rounds its weights: it has {served.exact.mean:.1%} of "
        f"{counted(served.n_items, 'test item', spec=',')}, full precision "
        f"{served.evaluated.mean:.1%}."
    )


def _warn(deployment: Deployment, limit_ms: float | None, context: Context) -> None:
    n_other = deployment.n_requests - deployment.n_equal
    if n_other:
        differ = AnswersDiffer(n_other, deployment.n_requests)
        context.warn(f"{differ} {_why_other(deployment.served)}")
    if limit_ms is not None and not deployment.meets_latency_limit:
        context.warn(str(LatencyMissed(deployment.latency_p95_ms, limit_ms)))


def _answered_by(folder: Path, answers: Sequence[KeptAnswer]) -> list[KeptAnswer]:
    """Return answers as the student in a folder gives them, in place of those that were scored."""
    student = load_predictor(folder)
    predicted = student.predict([one.question for one in answers])
    return [
        replace(
            answer,
            text=one.text,
            score=replace(answer.score, exact=float(one.text == answer.gold)),
        )
        for answer, one in zip(answers, predicted, strict=True)
    ]


# The bundle: the student as an ordinary Hugging Face folder, without custom code; of another kind
# of student its own files, which hold numbers and JSON alone.

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
)
_TAKEN = ("config.json", LABELS, *WEIGHTS, *TOKENIZER)
"""What a bundle takes over: nothing that would have to be unpickled or executed."""


def make_bundle(student: Path, bundle: Path, *, card: str, max_new_tokens: int) -> int:
    """Make the bundle of a student's folder, all of it or nothing, and return its bytes.

    Args:
        student: Hugging Face folder, or that of a student of another kind.
        bundle: folder to make; an earlier one is replaced.
        card: text of the model card.
        max_new_tokens: longest answer that the generation config allows.

    Raises:
        StratosError: the folder lacks weights, config, tokenizer or chat template.
    """
    is_other = is_predictor(student)
    missing = _missing_of_predictor(student) if is_other else _missing(student)
    if missing:
        raise StratosError(
            f"The student in {student} cannot be bundled: it has no {' and no '.join(missing)}. "
            "Delete distill.json in the run folder and give the command again: it is trained again."
        )
    with replacing(bundle) as staged:
        staged.mkdir()
        if is_other:
            for name in (FILE, PREDICTOR_WEIGHTS):
                shutil.copyfile(student / name, staged / name)
            if (student / ENCODER).is_dir():
                (staged / ENCODER).mkdir()
                _copy_model(student / ENCODER, staged / ENCODER)
        else:
            _copy_model(student, staged)
            _write_generation_config(staged, student, max_new_tokens)
        (staged / "README.md").write_text(card)
    return sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file())


def _copy_model(folder: Path, to: Path) -> None:
    for pattern in _TAKEN:
        for file in folder.glob(pattern):
            shutil.copyfile(file, to / file.name)


def _missing_of_predictor(student: Path) -> list[str]:
    """Return what a student that is no language model lacks."""
    has_weights = (student / PREDICTOR_WEIGHTS).is_file()
    encoder = student / ENCODER
    is_whole = not encoder.is_dir() or any(encoder.glob("*.safetensors"))
    return ["weights as safetensors"] * (not has_weights) + ["encoder"] * (not is_whole)


def _missing(student: Path) -> list[str]:
    """Return what a Hugging Face folder lacks."""
    needed = {
        "config.json": ("config.json",),
        "weights as safetensors": ("*.safetensors",),
        "tokenizer": ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"),
    }
    missing = [
        name
        for name, patterns in needed.items()
        if not any(True for pattern in patterns for _ in student.glob(pattern))
    ]
    in_config = student / "tokenizer_config.json"
    if not (student / "chat_template.jinja").exists() and not (
        in_config.exists() and '"chat_template"' in in_config.read_text()
    ):
        missing.append("chat template")
    return missing


def _write_generation_config(staged: Path, student: Path, max_new_tokens: int) -> None:
    """Write greedy decoding that ends where the answers of the evaluation ended."""
    from transformers import AutoConfig, GenerationConfig

    try:
        own = GenerationConfig.from_pretrained(student, local_files_only=True)
    except OSError:
        config = AutoConfig.from_pretrained(student, local_files_only=True, trust_remote_code=False)
        own = GenerationConfig.from_model_config(config)
    tokenizer = load_tokenizer(student)
    GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        bos_token_id=own.bos_token_id,
        eos_token_id=tokenizer.eos_token_id if own.eos_token_id is None else own.eos_token_id,
        pad_token_id=tokenizer.pad_token_id if own.pad_token_id is None else own.pad_token_id,
    ).save_pretrained(staged)
