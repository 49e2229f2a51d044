"""The stage: bundle the student, serve it here, ask it over HTTP, and write its service file."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stratos.config import Config, DeployConfig, EvaluateConfig, FitConfig, LimitsConfig
from stratos.core.atomic_files import replacing, write_atomically
from stratos.core.context import Context
from stratos.core.errors import StratosError
from stratos.core.formats import counted, with_items
from stratos.core.redact import personal_data
from stratos.core.values import named
from stratos.deploy.bundle_server import ALONE, context_of, serve_command, serving_bundle
from stratos.deploy.card import (
    card_name,
    model_card,
    tried_sizes,
    with_exports,
    with_sizes,
    with_speed,
)
from stratos.deploy.engines.base import ExportError
from stratos.deploy.engines.predictor import setting_of
from stratos.deploy.exports import chosen_format, make_exports, write_exports
from stratos.deploy.final_student import FinalIsWorse, final_student
from stratos.deploy.manifest import N_KNOWN, Known, write_known, write_manifest
from stratos.deploy.server import ServeError, Server, check_free
from stratos.deploy.service import WHEELS, service_files, write_wheels
from stratos.deploy.trial import (
    Asking,
    Plans,
    Trial,
    engine_here,
    planned_per_s,
    setting_here,
    try_server,
    with_format,
)
from stratos.estimate.cards import card_of_student
from stratos.estimate.hours import loaded_bytes
from stratos.evaluate.answers import KeptAnswer, read_answers, room_for_answers
from stratos.models.kinds import load_predictor
from stratos.models.kinds.base import ENCODER, FILE, LABELS, is_predictor, weights_bytes
from stratos.models.kinds.base import WEIGHTS as PREDICTOR_WEIGHTS
from stratos.models.pretrained import load_tokenizer
from stratos.plan.options.workload import rates_of
from stratos.records import (
    Corpus,
    Deployment,
    Exports,
    Pilot,
    Plan,
    Probe,
    Scorecard,
    ServingSetting,
    Student,
)
from stratos.synthesize.strategy import kind_of
from stratos.tasks.base import Task


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
    # A server that stays has the port that was asked for, and may have it now.
    port = 0 if config.deploy.keep else config.deploy.port
    if port:
        check_free(port)
    bundle, folder = context.run_dir / "bundle", context.run_dir / "deploy"
    # A bundle is published with its card and its known answers: those come last that seem personal.
    answers = sorted(read_answers(context.run_dir, scorecard), key=_is_personal)
    if is_predictor(student.path):
        _warn_of_words(answers, context)
    final = final_student(config, student, corpus, folder / "student")
    if final.note is not None:
        (context.warn if isinstance(final.note, FinalIsWorse) else context.note)(str(final.note))
    questions = answers[: max(config.deploy.n_requests, N_KNOWN)]
    if final.n_rows:
        questions = _answered_by(final.folder, questions)
    room = room_for_answers(answers, config.evaluate.max_new_tokens)
    known = [_known(config.task, answer, room) for answer in questions[:N_KNOWN]]
    questions = questions[: config.deploy.n_requests]

    _check_folder(context)
    context.tick(0, len(questions), "bundle")
    card = model_card(config, plan, scorecard, student, corpus, answers, probe, pilot, final)
    make_bundle(final.folder, bundle, card=card, max_new_tokens=config.evaluate.max_new_tokens)
    write_known(bundle, known)
    run, exports = _engine_and_exports(config, plan, bundle, answers, context)
    run = setting_of(bundle, run) or ALONE
    service = _write_service(plan, card_name(config.task, student), bundle, run, context)

    context.tick(0, len(questions), "server starts")
    with serving_bundle(bundle, run, folder / "server.log", port=port) as server:
        asking = _asking(
            config.evaluate, config.deploy, config.seed, server, questions, run, context
        )
        plans = _plans(config, plan, bundle, student.n_params, run, context)
        trial = try_server(asking, plans, config.deploy.concurrency)
    _check_folder(context)
    deployment = replace(
        _deployment(config.limits, bundle, run, questions, trial),
        service_path=str(service),
        exports=exports,
        n_rows_learnt=final.n_rows,
        agreement=final.agreement,
    )
    deployment = replace(deployment, model_mb=_model_bytes(bundle, deployment) / 1e6)
    tried = tried_sizes(probe, plan, student.name, scorecard.score("student"), deployment)
    card = with_sizes(with_exports(with_speed(card, deployment), exports), tried, student)
    write_atomically(bundle / "README.md", card.encode())
    write_manifest(bundle, config.deploy.author)
    deployment = replace(
        deployment,
        bundle_bytes=_n_bytes(bundle),
        seconds=time.perf_counter() - started,
    )
    _warn(deployment, config.limits.latency_ms, context)
    _log(deployment, context)
    return deployment


def _known(task: Task, answer: KeptAnswer, room: int) -> Known:
    """Return a question with the evaluation's answer, as `stratos serve` tries them."""
    return Known(
        answer.messages,
        answer.text,
        answer.gold,
        answer.score.exact >= 1.0,
        room,
        task.request_of(answer.messages),
    )


def _warn_of_words(answers: Sequence[KeptAnswer], context: Context) -> None:
    """Warn that a student holds words of its rows, where these are like rows with personal data."""
    if n_personal := sum(map(_is_personal, answers)):
        rows = counted(len(answers), "test row", spec=",")
        context.warn(
            f"{n_personal:,} of {rows} hold what looks like personal data, and so may those that "
            "it has learnt: whoever has the student's bundle can read words of these."
        )


def _asking(
    evaluate: EvaluateConfig,
    settings: DeployConfig,
    seed: int,
    server: Server,
    questions: Sequence[KeptAnswer],
    run: ServingSetting,
    context: Context,
) -> Asking:
    return Asking(
        server,
        [answer.messages for answer in questions],
        evaluate.max_new_tokens,
        settings.load_seconds,
        seed,
        context.tick,
        run.slots,
    )


def _check_folder(context: Context) -> None:
    """Check that the run folder is there before something is written that would make it anew.

    Raises:
        StratosError: it is not.
    """
    if not context.run_dir.is_dir() or not any(context.run_dir.iterdir()):
        raise StratosError(f"{context.run_dir} was deleted or emptied while the stage worked.")


def _is_personal(answer: KeptAnswer) -> bool:
    """Return whether a question or its answer holds what looks like personal data or a key."""
    texts = (*(message["content"] for message in answer.messages), answer.text, answer.gold)
    return any(next(personal_data(text), None) is not None for text in texts)


def _write_service(
    plan: Plan, name: str, bundle: Path, run: ServingSetting, context: Context
) -> Path:
    """Write the service files of the planned servers; return the first."""
    servers = [
        replace(choice, run=setting_of(bundle, choice.run))
        for choice in with_format(plan.roles_of("serve"), run)
    ]
    folder = context.run_dir / "deploy"
    wheels = (folder / WHEELS).absolute()
    files = list(service_files(servers, name, bundle.absolute(), wheels))
    try:
        write_wheels(servers, wheels)
    except StratosError as error:  # all else of the stage is as good without it
        context.warn(f"{folder / WHEELS} has no wheel for the servers: {error}")
    for file, text in files:
        write_atomically(folder / file, text.encode())
    return folder / files[0][0]


def _plans(
    config: Config, plan: Plan, bundle: Path, n_params: int, run: ServingSetting, context: Context
) -> Plans:
    """Return what the server's test is compared with."""
    serve = plan.role("serve")
    rate = config.traffic.requests_per_s
    student = named(config.students, plan.student)
    if student.fit.cuts:
        student = replace(student, path=str(bundle), fit=FitConfig())
    return Plans(
        card=None if is_predictor(bundle) else card_of_student(student, config.task),
        task=config.task.name,
        strategy=kind_of(config.strategies, plan.strategy),
        run=run,
        planned_per_s=planned_per_s(
            plan, rates_of(config.traffic, len(serve.traffic)) if rate else None
        ),
        cache_dir=context.cache_dir,
        limit_ms=config.limits.latency_ms,
        offer=serve.offer,
        count=serve.count,
        loaded_bytes=loaded_bytes(weights_bytes(bundle), n_params),
    )


def _deployment(
    limits: LimitsConfig,
    bundle: Path,
    run: ServingSetting,
    questions: Sequence[KeptAnswer],
    trial: Trial,
) -> Deployment:
    """Return what the server showed, without what the rest of the stage tells."""
    test, limit_ms = trial.closed, limits.latency_ms
    p95_ms = test.latency_ms(0.95)
    pairs = zip(test.answers, questions, strict=True)
    return Deployment(
        bundle_path=str(bundle),
        server=serve_command(str(bundle), run=run, context=context_of(bundle)),
        n_requests=len(questions),
        n_equal=sum(served.text == answer.text for served, answer in pairs),
        latency_p50_ms=test.latency_ms(0.5),
        latency_p95_ms=p95_ms,
        tokens_per_s=test.tokens_per_s,
        service_path="",
        bundle_bytes=0,
        seconds=0.0,
        meets_latency_limit=None if limit_ms is None else p95_ms <= limit_ms,
        run=run,
        answer_ms=trial.answer_ms,
        load=trial.load,
        load_note=trial.load_note,
        others_cores=trial.others_cores,
        was_busy=trial.was_busy,
        memory_gib=trial.memory_gib,
    )


def _engine_and_exports(
    config: Config, plan: Plan, bundle: Path, answers: Sequence[KeptAnswer], context: Context
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
        if engine is None or not engine.exports:
            if engine is not None and (why := engine.cannot_export(bundle, engine.served)):
                raise ExportError(f"{engine.title} does not serve this student: {why}.")
            return setting_here(plan, engine), None
        exports = make_exports(
            bundle,
            engine,
            # A limit is about all items of the evaluation, so that all are asked.
            answers if least is not None else answers[: config.deploy.n_export_items],
            config.task,
            context,
            max_tokens=config.evaluate.max_new_tokens,
            max_loss_points=config.deploy.max_loss_points,
            n_evaluated=len(answers),
            may_change=is_planned,
            least_accuracy=least,
            minutes=config.deploy.export_minutes,
        )
    except (ExportError, ServeError) as error:
        if not is_planned:
            raise
        context.warn(f"transformers serves the student: {error}")
        return ALONE, None
    if exports is None:
        return ALONE, None
    form = chosen_format(
        engine,
        exports,
        context,
        least_accuracy=least,
        most_mb=config.limits.model_mb,
        may_change=is_planned,
    )
    if form is not None:
        chats = [answer.messages for answer in answers]
        note = f"{exports.note} {engine.write_settings(bundle, form, chats)}".strip()
        exports = replace(exports, note=note)
    exports = replace(exports, served=form or "")
    write_exports(bundle, exports)
    run = setting_here(plan, engine)
    return (ALONE if form is None else replace(run, format=form)), exports


def _answered_by(folder: Path, answers: Sequence[KeptAnswer]) -> list[KeptAnswer]:
    """Return answers as the student in a folder gives them, in place of those that were scored."""
    predictions = load_predictor(folder).predict([answer.question for answer in answers])
    return [
        replace(
            answer,
            text=prediction.text,
            score=replace(answer.score, exact=float(prediction.text == answer.gold)),
        )
        for answer, prediction in zip(answers, predictions, strict=True)
    ]


def _log(deployment: Deployment, context: Context) -> None:
    metrics = {
        "deploy/latency_p50_ms": deployment.latency_p50_ms,
        "deploy/latency_p95_ms": deployment.latency_p95_ms,
        "deploy/tokens_per_s": deployment.tokens_per_s,
        "deploy/equal": deployment.n_equal / deployment.n_requests,
    }
    if (load := deployment.load) is not None:
        metrics["deploy/load_requests_per_s"] = load.requests_per_s
        metrics["deploy/load_p95_ms"] = load.latency_p95_ms
        metrics["deploy/capacity_per_s"] = load.capacity_per_s
    context.log(metrics)


def _warn(deployment: Deployment, limit_ms: float | None, context: Context) -> None:
    """Say where answers differ from those of the evaluation, or take longer than they may."""
    n, served = deployment.n_requests - deployment.n_equal, deployment.served
    if n:
        why = "A few may: rounding differs with the size of a batch."
        if served is not None:
            why = (
                f"{served.format} rounds its weights: it has {served.exact.mean:.1%} of "
                f"{counted(served.n_items, 'test item', spec=',')}, full precision "
                f"{served.evaluated.mean:.1%}."
            )
        context.warn(
            f"{n} of {counted(deployment.n_requests, 'answer')} of the server "
            f"{'differs' if n == 1 else 'differ'} from the evaluation. {why}"
        )
    if limit_ms is not None and not deployment.meets_latency_limit:
        context.warn(
            f"The server on this machine took {deployment.latency_p95_ms:.0f} ms for one answer "
            f"(p95), above limits.latency_ms={limit_ms:g}. The planned server may be faster; a "
            "smaller student is."
        )


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
_MODEL = ("config.json", LABELS, *WEIGHTS, *TOKENIZER)
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
    if missing := _missing(student):
        raise StratosError(
            f"The student in {student} cannot be bundled: it has no {' and no '.join(missing)}. "
            "Delete distill.json in the run folder and give the command again: it is trained again."
        )
    with replacing(bundle) as staged:
        staged.mkdir()
        if is_predictor(student):
            for name in (FILE, PREDICTOR_WEIGHTS):
                shutil.copyfile(student / name, staged / name)
            if (student / ENCODER).is_dir():
                _copy_model(student / ENCODER, staged / ENCODER)
        else:
            _copy_model(student, staged)
            _write_generation_config(staged, student, max_new_tokens)
        (staged / "README.md").write_text(card)
    return _n_bytes(bundle)


def _n_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _model_bytes(bundle: Path, deployment: Deployment) -> int:
    """Return the bytes of the weights that the server loads."""
    if (served := deployment.served) is not None:
        return served.n_bytes
    return weights_bytes(bundle)


def _copy_model(folder: Path, to: Path) -> None:
    to.mkdir(exist_ok=True)
    for pattern in _MODEL:
        for file in folder.glob(pattern):
            shutil.copyfile(file, to / file.name)


def _missing(student: Path) -> list[str]:
    """Return what a student's folder lacks."""
    encoder = student / ENCODER
    if is_predictor(student):
        needed = {"weights as safetensors": student.glob(PREDICTOR_WEIGHTS)}
        if encoder.is_dir():
            needed["encoder"] = encoder.glob("*.safetensors")
        return [name for name, files in needed.items() if not any(files)]
    names = [file.name for file in student.iterdir()]
    settings = student / "tokenizer_config.json"
    has_template = "chat_template.jinja" in names or (
        settings.exists() and '"chat_template"' in settings.read_text()
    )
    has = {
        "config.json": "config.json" in names,
        "weights as safetensors": any(name.endswith(".safetensors") for name in names),
        "tokenizer": not {
            "tokenizer.json",
            "tokenizer.model",
            "vocab.json",
            "vocab.txt",
        }.isdisjoint(names),
        "chat template": has_template,
    }
    return [name for name, is_there in has.items() if not is_there]


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
