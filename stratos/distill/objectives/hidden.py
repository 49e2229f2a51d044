"""Hidden-state matching between layers of student and teacher."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def hidden_match(
    student_MH: Tensor, teacher_MD: Tensor, n_tokens: float | None = None, cosine: bool = False
) -> Tensor:
    """Return the distance of hidden states of the learned places, summed and divided by n_tokens.

    student_MH (M, D), already projected, and teacher_MD (M, D), which gets no gradient. Distances
    are reduced in float32: the squared error relative to the teacher's mean square at the place (a
    teacher's layers differ in scale by orders of magnitude), or 1 - cosine. Safe for M = 0.
    """
    ours, theirs = student_MH.float(), teacher_MD.detach().float()
    if cosine:
        distance_M = 1 - F.cosine_similarity(ours, theirs, dim=-1)
    else:
        scale_M = theirs.square().mean(-1).clamp(min=torch.finfo(torch.float32).eps)
        distance_M = (ours - theirs).square().mean(-1) / scale_M
    return distance_M.sum() / ((len(ours) if n_tokens is None else n_tokens) or 1)


def layer_pairs(n_student: int, n_teacher: int) -> list[tuple[int, int]]:
    """Return which teacher's layer each student's layer is matched with, counted from 1.

    Layers are spread evenly and the last goes with the last, as in the index of `hidden_states`
    that Hugging Face models return, where 0 is the embedding.
    """
    return [(i, round(i * n_teacher / n_student)) for i in range(1, n_student + 1)]


class HiddenMatch(nn.Module):
    """Learned projections from the student's width to the teacher's, one for each pair of layers.

    They are trained with the student (its optimizer needs their parameters) and dropped after.
    """

    def __init__(
        self, student_width: int, teacher_width: int, pairs: Sequence[tuple[int, int]]
    ) -> None:
        """Make a projection without bias for each pair of (student's, teacher's) layers."""
        super().__init__()
        self.pairs = list(pairs)
        self.projections = nn.ModuleList(
            nn.Linear(student_width, teacher_width, bias=False) for _ in self.pairs
        )

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        rows_M: Tensor,
        n_tokens: float,
        cosine: bool = False,
        teacher_rows_M: Tensor | None = None,
    ) -> Tensor:
        """Return the mean over the pairs of `hidden_match`.

        student and teacher: hidden states by layer, each (..., width); rows_M: the learned places
        of the flattened states; teacher_rows_M: those of the teacher's, where it reads a prompt of
        its own or other tokens.
        """
        if teacher_rows_M is None:
            teacher_rows_M = rows_M
        total = torch.zeros((), device=rows_M.device)
        for (ours, theirs), projection in zip(self.pairs, self.projections, strict=True):
            student_MH = student[ours].flatten(0, -2)[rows_M]
            teacher_MD = teacher[theirs].flatten(0, -2)[teacher_rows_M]
            total = total + hidden_match(projection(student_MH), teacher_MD, n_tokens, cosine)
        return total / max(1, len(self.pairs))
