r"""A real language model teaches by its logits: how close students of unlike vocabularies come.

    python benchmarks/distillation/language.py
    python benchmarks/distillation/language.py --cases same/text same/forward_kl --seeds 3

SmolLM2-135M-Instruct (`conf/teacher/smollm2.yaml`) writes weather notes at temperature 1, so that
cross-entropy on the notes and the forward KL have the same student at their minimum. Students of
random weights learn them from the same rows in the same order: by the text alone, or by what the
teacher says of every token. Pairs:

    same    the teacher's tokenizer; its 64 likeliest tokens come from the signal cache
    padded  the same with an embedding that is wider than the tokenizer
    other   a byte-level BPE of the notes; both are compared where they begin a token together

Measured on notes of prompts that no student has seen: how often student and teacher find the same
token likeliest, KL(teacher || student) over the whole vocabulary (with another tokenizer: over the
tokens of both and one outcome for all others), and the perplexity of the notes. What is done lies
in --folder: the same command goes on behind the last case.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import language_texts

ROOT = Path(__file__).resolve().parents[2]
PADDED = 49_280
STRATEGIES: dict[str, dict[str, Any]] = {
    "same/untrained": {},
    "same/text": {},
    "same/forward_kl": {"objective": "forward_kl"},
    "same/reverse_kl": {"objective": "reverse_kl"},
    "same/jsd": {"objective": "jsd"},
    "padded/forward_kl": {"objective": "forward_kl"},
    "other/untrained": {},
    "other/text": {},
    "other/universal_logit": {"objective": "universal_logit", "cross_entropy": 0.5},
    "other/forward_kl": {"objective": "forward_kl", "only_shared": True},
    "other/forward_kl+text": {
        "objective": "forward_kl",
        "only_shared": True,
        "cross_entropy": 0.5,
    },
}
"""Each case, and what it changes of `strategy=alignment_logits`."""
SEEDED = ("same/text", "same/forward_kl")
"""Cases that are run with every seed."""
NOTES = 24
"""Notes that are measured at once."""


def make_teacher() -> Any:
    """Return the teacher as its YAML has it."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    config = OmegaConf.load(ROOT / "conf" / "teacher" / "smollm2.yaml")
    return instantiate(config, batch_size=language_texts.BATCH, cache="off")


def make_strategy(case: str) -> Any:
    """Return the strategy of a case."""
    from stratos.synthesize.white_box import AlignmentLogits

    cache = "none" if case.startswith("other") else "topk"
    return AlignmentLogits(cache=cache, **STRATEGIES[case])  # type: ignore[arg-type]


def make_student(pair: str, notes: Any, teacher: Any, seed: int, settings: Any) -> Any:
    """Return a student of random weights and its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from stratos.distill.tokenizer import trained_tokenizer

    if pair == "other":
        texts = [text for note in notes for text in (note.prompt, note.text)]
        tokenizer = trained_tokenizer([*texts, language_texts.SYSTEM], settings.vocab)
    else:
        tokenizer = teacher.tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=PADDED if pair == "padded" else len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=8 * settings.width // 3 // 32 * 32,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.width // 32,
        num_key_value_heads=settings.width // 32,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config), tokenizer


def make_context(settings: Any) -> Any:
    """Return what a stage is handed."""
    from stratos.core.context import Context
    from stratos.ledger import Ledger

    folder = settings.folder
    return Context(folder, folder / "cache", Ledger(folder / "ledger"), warn=print)


def prepare(settings: Any) -> None:
    """Have the teacher write the notes and read them, as far as this was not done before."""
    from language_states import remember

    from stratos.distill.signal.source import open_source

    teacher = make_teacher()
    language_texts.write_notes(
        settings.notes, settings.texts, teacher, settings.length, settings.temperature
    )
    learned, held_out = language_texts.read_notes(settings.notes, settings.texts)
    across = any(case.startswith("other") for case in settings.cases)
    kept = [*held_out, *learned] if across else held_out
    remember(settings.folder, teacher, language_texts.documents(teacher.tokenizer(), kept))
    data = language_texts.documents(teacher.tokenizer(), learned)
    strategy = make_strategy("same/forward_kl")
    open_source(teacher, strategy.signal, teacher.tokenizer(), data, make_context(settings)).close()


def one(case: str, seed: int, settings: Any) -> dict[str, float]:
    """Train and measure one student."""
    import lightning as L
    from language_states import Remembered

    from stratos.config import TrainerConfig
    from stratos.distill.checkpoints import RandomStates
    from stratos.distill.data import PackedLoader
    from stratos.distill.module import StudentModule
    from stratos.distill.signal.cross_tokenizer import CrossTokenizerSource
    from stratos.distill.signal.local import LocalSource
    from stratos.distill.signal.source import open_source
    from stratos.distill.trainer import make_trainer, quiet_lightning

    (pair, method), teacher = case.split("/"), make_teacher()
    learned, held_out = language_texts.read_notes(settings.notes, settings.texts)
    model, tokenizer = make_student(pair, learned, teacher, seed, settings)
    data = language_texts.documents(tokenizer, learned)
    signal, read = make_strategy(case).signal, Remembered(settings.folder)

    def across(notes: Any, only_shared: bool) -> Any:
        theirs = language_texts.documents(teacher.tokenizer(), notes)
        prompts = [theirs.prompt(document) for document in range(len(theirs))]
        return CrossTokenizerSource(read, teacher.tokenizer(), tokenizer, prompts, only_shared)

    settings_of = TrainerConfig(
        batch_tokens=settings.batch_tokens, warmup_steps=20, precision="fp32"
    )
    L.seed_everything(seed, verbose=False)
    n_tokens = int(settings.epochs * data.lengths.sum())
    loader = PackedLoader(data, settings_of.batch_tokens, n_tokens, seed)
    if method in ("untrained", "text"):
        module = StudentModule(model, settings_of, loader.n_steps)
    else:
        if pair == "other":
            source = across(learned, signal.only_shared)
        else:
            source = open_source(teacher, signal, tokenizer, data, make_context(settings))
        module = StudentModule(model, settings_of, loader.n_steps, source, signal.to_minimize())
    began, result = time.process_time(), {}
    if method != "untrained":
        with quiet_lightning():
            folder = settings.folder / "lightning"
            trainer = make_trainer(settings_of, loader.n_steps, [RandomStates()], folder)
            trainer.fit(module, loader)
        result = {"steps": loader.n_steps, "train_cpu_seconds": time.process_time() - began}
    model.eval()
    scored = across(held_out, False) if pair == "other" else LocalSource(read)
    result |= measured(model, [teacher.tokenizer(), tokenizer], held_out, scored)
    inside = sum(weight.numel() for weight in model.model.layers.parameters())
    return result | {"n_params": model.num_parameters(), "n_params_blocks": inside}


def measured(model: Any, tokenizers: list[Any], notes: Any, source: Any) -> dict[str, float]:
    """Compare a student with the teacher at every learned place of held-out notes.

    With another tokenizer at the places where both begin a token; the perplexity is of all places,
    and of those where only the student begins one (`perplexity_apart`). `padding` is what the
    student gives to ids that no token has.
    """
    import language_metrics as metrics
    import numpy as np
    import torch
    from language_states import STEP, logits

    from stratos.distill.data import pack
    from stratos.distill.signal.cross_tokenizer import CrossTokenizerSource, shared_with_end
    from stratos.distill.signal.local import Reader, TeacherRow, split

    theirs, ours = tokenizers
    data = language_texts.documents(ours, notes)
    reader = Reader(model, model.config.vocab_size, int(data.lengths.max()))
    texts = metrics.numbered_texts(tokenizers)
    shared = shared_with_end(ours, theirs) if isinstance(source, CrossTokenizerSource) else None
    names = ("agreed", "kl", "entropy", "surprise", "teacher_surprise", "apart", "padding")
    sums = dict.fromkeys((*names, "places", "compared"), 0.0)

    def add(name: str, values: torch.Tensor) -> None:
        sums[name] += float(values.double().sum())

    for documents in np.split(np.arange(len(data)), range(NOTES, len(data), NOTES)):
        batch = pack([data.text(d) for d in documents], data.prompt_lengths[documents], documents)
        parts, places = split(batch), source.places(batch)
        places = torch.arange(len(batch.targets_M)) if places is None else places
        said = reader(TeacherRow.of(parts.prompts, parts.completions), torch.device("cpu"))
        with torch.no_grad():
            student_MU = torch.cat(list(logits(said)))
            add("padding", student_MU.softmax(1)[:, len(ours) :])
            student_MU = student_MU[:, : len(ours)]
            surprise_M = metrics.surprise(student_MU, batch.targets_M)
            add("surprise", surprise_M)
            add("apart", surprise_M.index_fill(0, places, 0))
            student_RUs, targets_Rs = student_MU[places].split(STEP), batch.targets_M.split(STEP)
            for teacher_RV, student_RU, targets_R in zip(
                logits(source.signal(batch)), student_RUs, targets_Rs, strict=shared is None
            ):
                add("agreed", metrics.top1_agreement(teacher_RV, student_RU, *texts))
                add("entropy", metrics.entropy(teacher_RV))
                if shared is not None:
                    student_RU = metrics.outcomes(student_RU, shared[0])
                    teacher_RV = metrics.outcomes(teacher_RV, shared[1])
                else:
                    add("teacher_surprise", metrics.surprise(teacher_RV, targets_R))
                add("kl", metrics.forward_kl(teacher_RV, student_RU))
        sums["places"] += len(batch.targets_M)
        sums["compared"] += len(places)
    n_places, n_compared = sums["places"], sums["compared"]
    n_bytes = language_texts.n_bytes(notes)
    result = {
        "top1": sums["agreed"] / n_compared,
        "kl": sums["kl"] / n_compared,
        "perplexity": metrics.perplexity(sums["surprise"], n_places),
        "perplexity_per_byte": metrics.perplexity(sums["surprise"], n_bytes),
        "compared": n_compared / n_places,
        "places": n_places,
        "padding": sums["padding"] / n_places,
    }
    if n_compared < n_places:
        n_apart = n_places - n_compared
        result["perplexity_apart"] = metrics.perplexity(sums["apart"], n_apart)
    if shared is None:
        result |= {
            "teacher_entropy": sums["entropy"] / n_compared,
            "teacher_perplexity": metrics.perplexity(sums["teacher_surprise"], n_places),
            "teacher_perplexity_per_byte": metrics.perplexity(sums["teacher_surprise"], n_bytes),
        }
    return result


def main() -> None:
    """Prepare, run the cases that are missing, each in a process of its own, and print all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=1_440, help="notes that the teacher writes")
    parser.add_argument("--length", type=int, default=64, help="longest note, in its tokens")
    parser.add_argument("--temperature", type=float, default=1.0, help="at which it writes")
    parser.add_argument("--epochs", type=float, default=4, help="how often a student reads them")
    parser.add_argument("--batch-tokens", type=int, default=1_024)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocab", type=int, default=4_096, help="of the other tokenizer")
    parser.add_argument("--seeds", type=int, default=1, help=f"of {' and '.join(SEEDED)}")
    parser.add_argument("--cases", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    parser.add_argument("--folder", type=Path, default=ROOT / "outputs" / "language")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    settings = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    settings.notes = settings.folder / f"notes-{settings.length}-{settings.temperature:g}.jsonl"
    if settings.one is not None:
        work(settings)
        return
    settings.folder.mkdir(parents=True, exist_ok=True)
    names = ("texts", "length", "temperature", "epochs", "batch_tokens", "width", "layers", "vocab")
    told = "-".join(f"{getattr(settings, name):g}" for name in names)
    path = settings.folder / f"results-{told}.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    child([*sys.argv, "--one", "prepare"])
    for case in settings.cases:
        for seed in range(settings.seeds if case in SEEDED else 1):
            name = f"{case}/{seed}"
            if name not in results:
                results[name] = child([*sys.argv, "--one", name])
                path.write_text(json.dumps(results, indent=1))
                print(name, json.dumps(results[name]), flush=True)
    show(results)
    if settings.keep:
        sys.path.insert(0, str(ROOT / "benchmarks"))
        from record import keep

        keep("distillation/language", {"settings": told, "runs": results}, seed=0)


def child(command: list[str]) -> Any:
    """Run this script for one thing; return what it says last."""
    done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def work(settings: Any) -> None:
    """Do the one thing that this process is for."""
    import torch

    torch.set_num_threads(1)
    if settings.one == "prepare":
        result: Any = prepare(settings)
    else:
        case, _, seed = settings.one.rpartition("/")
        result = one(case, int(seed), settings)
    print(json.dumps(result))


def show(results: dict[str, dict[str, float]]) -> None:
    """Print a line for each case: means over its seeds, and the span where there are several."""
    columns = ("top1", "kl", "perplexity", "perplexity_per_byte", "train_cpu_seconds")
    print(f"{'case':24} seeds " + " ".join(f"{column:>20}" for column in columns))
    for case in STRATEGIES:
        runs = [run for name, run in results.items() if name.rpartition("/")[0] == case]
        if not runs:
            continue
        cells = []
        for column in columns:
            values = [run.get(column, 0.0) for run in runs]
            cell = f"{sum(values) / len(values):.4g}"
            if len(values) > 1:
                cell += f" ({min(values):.4g}-{max(values):.4g})"
            cells.append(f"{cell:>20}")
        print(f"{case:24} {len(runs):5} " + " ".join(cells))
    told = next((run for run in results.values() if "teacher_entropy" in run), None)
    if told is not None:
        print(
            f"The teacher: entropy {told['teacher_entropy']:.3f} nats a token, perplexity "
            f"{told['teacher_perplexity']:.3f}, {told['teacher_perplexity_per_byte']:.4f} a byte, "
            f"at {told['places']:,.0f} tokens."
        )


if __name__ == "__main__":
    main()
