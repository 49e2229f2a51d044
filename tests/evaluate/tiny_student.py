"""A task that a model of 20,000 parameters learns in seconds, and such a model.

The question is two numbers from 0 to 9, the answer is the larger one: "3 7" is answered with
"of 3 and 7 ; 7". The answer's length varies, because numbers in the slice "far" are counted up to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random

from stratos.tasks.base import Item, Message, Score, Task

WORDS = ("<pad>", "<end>", "<user>", "<assistant>", ";", *map(str, range(10)))
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<user> ' if message.role == 'user' else '<assistant> ' }}{{ message.content }} "
    "{% if message.role == 'assistant' %}<end> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


@dataclass
class Larger(Task):
    """The larger of two digits; "far" pairs differ by three or more."""

    name: str = "larger"
    version: int = 1
    metric: str = "exact"
    slices: tuple[str, ...] = ("near", "far")
    prompts: tuple[str, ...] = ("default",)
    can_reverse: bool = True

    def items(self, split: str, n: int, seed: int = 0, slice: str | None = None) -> list[Item]:
        pairs = list(product(range(10), repeat=2))
        Random(seed).shuffle(pairs)
        pairs = pairs[:40] if split == "train" else pairs[40:]
        made = [_item(a, b) for a, b in pairs]
        return [item for item in made if slice in (None, item.slice)][:n]

    def messages(self, item: Item, prompt: str = "default") -> list[Message]:
        return [{"role": "user", "content": item.question}]

    def choice_messages(self, item: Item) -> list[Message]:
        return self.messages(item)

    def student_messages(self, item: Item) -> list[Message]:
        return self.messages(item)

    def completion(self, item: Item) -> str:
        return f"{item.rationale} ; {item.answer}"

    def parse(self, text: str) -> str | None:
        return text.split()[-1] if text.split() and text.split()[-1].isdigit() else None

    def parse_choice(self, text: str) -> int | None:
        return None

    def score(self, text: str, item: Item) -> Score:
        answer = self.parse(text)
        right = float(answer == item.answer)
        return Score(exact=right, f1=right, parsed=answer is not None)

    def example_answers(self, prompt: str) -> frozenset[str]:
        return frozenset()

    def reverse(self, n: int, seed: int = 0) -> Iterator[Item]:
        yield from self.items("train", n, seed)

    def verify(self, item: Item) -> str | None:
        return None

    def lookup(self, train: Sequence[Item], items: Sequence[Item]) -> list[str]:
        def distance(one: Item, other: Item) -> int:
            return sum(
                abs(int(a) - int(b))
                for a, b in zip(one.question.split(), other.question.split(), strict=True)
            )

        return [min(train, key=lambda known: distance(known, item)).answer for item in items]

    def vocabulary(self) -> None:
        return None


def _item(a: int, b: int) -> Item:
    larger = max(a, b)
    far = abs(a - b) >= 3
    path = " ".join(map(str, range(larger + 1))) if far else f"{a} {b}"
    return Item(
        id=f"{a}-{b}",
        slice="far" if far else "near",
        question=f"{a} {b}",
        answer=str(larger),
        choices=tuple(str((larger + shift) % 10) for shift in range(4)),
        rationale=path,
    )


def tiny_tokenizer():
    """Return a word-level tokenizer with a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        eos_token="<end>",
        additional_special_tokens=["<user>", "<assistant>"],
        padding_side="left",
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny_model(seed: int = 0, **changes):
    """Return a random Llama of 32 dimensions and 2 layers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    options = {
        "vocab_size": len(WORDS),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    return LlamaForCausalLM(LlamaConfig(**{**options, **changes}))


def make_students(folder: Path, steps: int = 150) -> tuple[Path, Path]:
    """Train the tiny model on every pair; return the folders of student and untouched twin."""
    import torch

    task, tokenizer, model = Larger(), tiny_tokenizer(), tiny_model()
    student, untouched = folder / "student", folder / "untouched"
    for path in (student, untouched):
        tokenizer.save_pretrained(path)
    model.save_pretrained(untouched)
    rows = []
    for item in task.items("train", 100) + task.items("test", 100):
        chat = [
            *task.student_messages(item),
            {"role": "assistant", "content": task.completion(item)},
        ]
        rows.append(tokenizer.apply_chat_template(chat, return_dict=True)["input_ids"])
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    labels = ids.masked_fill(ids == 0, -100)
    labels[:, :4] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(steps):
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().save_pretrained(student)
    return student, untouched
