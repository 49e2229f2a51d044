"""What one job takes of a node of a cluster, whoever manages it: a share, told by its parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_MIB_A_GIB = 1024


@dataclass(frozen=True)
class Share:
    """What one job takes of a node, and how many such jobs the cluster runs at once."""

    partition: str
    cpus: int
    memory_mib: int
    gpu: str
    """Type of its GPUs as the cluster names it; "" where it names none, and without GPUs."""
    n_gpus: int
    features: tuple[str, ...]
    count: int
    gpu_gib: float | None = None
    """Memory of a GPU; None where the cluster does not tell it."""

    @property
    def name(self) -> str:
        """What it is called as an instance type: different shares of a partition differ in it."""
        gpus = f"{self.n_gpus}x{self.gpu or 'gpu'}-" if self.n_gpus else ""
        gib, rest = divmod(self.memory_mib, _MIB_A_GIB)
        memory = f"{self.memory_mib}mib" if rest else f"{gib}gib"
        return "+".join([f"{gpus}{self.cpus}cpu-{memory}", *self.features])


def shares_of_node(
    partition: str,
    cpus: int,
    memory_mib: int,
    cards: Sequence[tuple[str, int]],
    *,
    features: tuple[str, ...] = (),
    nodes: int = 1,
    is_whole: bool = False,
) -> Iterator[Share]:
    """Yield what jobs may take of nodes that are equal.

    A job takes 1, 2, 4 … GPUs of a node and as much of its CPUs and memory, or 1, 2, 4 … CPUs of a
    node without GPUs, or all of it.

    Args:
        partition: in which the nodes are.
        cpus: of a node.
        memory_mib: of a node.
        cards: type and number of its GPUs; a node of several types gives a job those of one.
        features: that a job may ask for.
        nodes: how many there are.
        is_whole: a job takes the whole of a node.
    """
    for gpu, whole in cards or [("", cpus)]:
        for part in [whole] if is_whole else _parts(whole):
            yield Share(
                partition=partition,
                cpus=max(1, cpus * part // whole),
                memory_mib=memory_mib * part // whole,
                gpu=gpu,
                n_gpus=part if cards else 0,
                features=features,
                count=nodes * (whole // part),
            )


def together(shares: Iterable[Share]) -> list[Share]:
    """Return shares by partition and name, equal ones counted together."""
    shares_by_name: dict[tuple[str, str], Share] = {}
    for share in shares:
        key = (share.partition, share.name)
        count = share.count + (shares_by_name[key].count if key in shares_by_name else 0)
        shares_by_name[key] = Share(**{**vars(share), "count": count})
    return [shares_by_name[key] for key in sorted(shares_by_name)]


def _parts(whole: int) -> list[int]:
    return sorted({*(1 << i for i in range(whole.bit_length()) if 1 << i <= whole), whole})
