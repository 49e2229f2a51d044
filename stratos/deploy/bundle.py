"""The bundle: the student as an ordinary Hugging Face folder, without custom code."""

from __future__ import annotations

import shutil
from pathlib import Path

from stratos.core.atomic_files import replacing
from stratos.core.errors import StratosError
from stratos.models.pretrained import load_tokenizer

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
_TAKEN = ("config.json", *WEIGHTS, *TOKENIZER)
"""What a bundle takes over: nothing that would have to be unpickled or executed."""


def make_bundle(student: Path, bundle: Path, *, card: str, max_new_tokens: int) -> int:
    """Make the bundle of a student's folder, all of it or nothing, and return its bytes.

    Args:
        student: Hugging Face folder.
        bundle: folder to make; an earlier one is replaced.
        card: text of the model card.
        max_new_tokens: longest answer that the generation config allows.

    Raises:
        StratosError: the folder lacks weights, config, tokenizer or chat template.
    """
    _check_complete(student)
    with replacing(bundle) as staged:
        staged.mkdir()
        for pattern in _TAKEN:
            for file in student.glob(pattern):
                shutil.copyfile(file, staged / file.name)
        _write_generation_config(staged, student, max_new_tokens)
        (staged / "README.md").write_text(card)
    return sum(file.stat().st_size for file in bundle.iterdir())


def _check_complete(student: Path) -> None:
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
    if missing:
        raise StratosError(
            f"The student in {student} cannot be bundled: it has no {' and no '.join(missing)}. "
            "Delete distill.json in the run folder and give the command again: it is trained again."
        )


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
