"""Whether a model keeps the documents of a packed row apart, tried out on a few tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stratos.core.errors import StratosError
from stratos.distill import packed
from stratos.distill.packed import Documents

_LENGTHS = (11, 19)
_TOLERANCE = 1e-4
"""Of the largest number, which sums in another order differ by."""
_READ = 1e-6
"""The same where the sums are of the same numbers."""


def check_packs(name: str, model: Any) -> None:
    """Refuse a student that would learn from documents that it does not tell apart.

    A class may have layers that read along the row (state spaces, convolutions), positions of its
    own (ALiBi), or no attention that can be replaced; no config says so of all of them. A window
    longer than these few tokens is not tried: `packed_attention` has it from the layer.

    Args:
        name: of the student.
        model: causal language model of transformers, in float32.

    Raises:
        StratosError: it is such a model.
    """
    if _packs(model):
        return
    raise StratosError(
        f"The student {name} cannot be trained here: {type(model).__name__} does not keep the "
        "documents of a packed row apart, so that each would be learnt as if it went on from the "
        "one before. Choose a student of another family, such as Llama, Qwen, Gemma or Mistral: "
        "student=<name>, or student=local student.path=<folder>."
    )


@torch.no_grad()
def _packs(model: Any) -> bool:
    n_ids, was_training = model.get_input_embeddings().weight.shape[0], model.training
    attention = model.config._attn_implementation
    first, second = (torch.arange(n, device=model.device) % n_ids for n in _LENGTHS)
    model.eval()
    try:
        alone = [_states(model, text.flip(0)[None]) for text in (first, second)]
        model.set_attn_implementation(packed.NAME)
        tokens_N = torch.cat([first.flip(0), second.flip(0)])
        positions_N = torch.cat([torch.arange(n, device=model.device) for n in _LENGTHS])
        documents = Documents.of(_LENGTHS).to(model.device)
        others_N = torch.cat([first, second.flip(0)])
        together, disturbed = (
            _states(model, tokens[None], positions_N[None], documents)
            for tokens in (tokens_N, others_N)
        )
    except Exception:  # what a class of its authors does with inputs that it does not know
        return False
    finally:
        model.set_attn_implementation(attention)
        model.train(was_training)
    wanted = torch.cat(alone, 1)
    largest = wanted.abs().max()
    # The second one is to read nothing of the first: experts may sum in another order.
    read = (together - disturbed)[:, len(first) :].abs().max()
    return bool(read <= _READ * largest and (together - wanted).abs().max() <= _TOLERANCE * largest)


def _states(
    model: Any,
    tokens_1N: Tensor,
    positions_1N: Tensor | None = None,
    documents: Documents | None = None,
) -> Tensor:
    inputs: dict[str, Any] = {"input_ids": tokens_1N, "use_cache": False}
    if documents is not None:
        inputs |= {"position_ids": positions_1N, "documents": documents}
    states: Tensor = model.base_model(**inputs).last_hidden_state
    return states
