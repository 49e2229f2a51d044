"""Models and offers that the tests of the estimate share."""

from stratos.estimate.fleet import Device
from stratos.records import CardRun, ModelCard, Offer

TINY = ModelCard("tiny", 869_504, 4, 128, 4, 4, 384, 128, 1024)
SEVEN = ModelCard("7b", 6_738_415_616, 32, 4096, 32, 32, 11008, 32000, 4096)
LLAMA_8B = ModelCard("8b", 8_030_261_248, 32, 4096, 32, 8, 14336, 128256, 8192)
SEVENTY = ModelCard("70b", 70_553_706_496, 80, 8192, 64, 8, 28672, 128256, 8192)
RUN = CardRun(
    task="t",
    strategy="injection",
    accuracy=0.9,
    n_items=1000,
    train_tokens=10_000_000,
    tokens_per_answer=150,
    ms_per_answer=321.0,
    train_cpu_seconds=500.0,
    seed=0,
    date="2026-11-20",
    machine="2 x EPYC",
)


def gpu(name: str, count: int = 1, cloud: str = "aws") -> Offer:
    """Return an offer with GPUs."""
    return Offer(cloud, "r", f"{count}x{name}", name, count, 16, 128, 80.0, 1.0)


def cpu(vcpus: float = 2.0, memory: float = 8.0, cloud: str = "aws") -> Offer:
    """Return an offer without."""
    return Offer(cloud, "r", f"cpu{vcpus:g}", None, 0, vcpus, memory, 0, 0.1)


def tensor_degrees(card: ModelCard, device: Device) -> tuple[int, ...]:
    """Return the degrees of tensor parallelism that model and server allow: powers of two."""
    degrees, g = [], 1
    while g <= device.count and card.n_heads % g == 0:
        degrees.append(g)
        g *= 2
    return tuple(degrees)
