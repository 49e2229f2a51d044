"""A stranger's GGUF file: it is refused in one sentence, within seconds and a GiB of memory."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from stratos.core.errors import ForeignFileError
from stratos.models.pretrained import load_tokenizer, read_gguf, sample_chat, why_no_gguf
from stratos.models.words import Endless, InFile
from stratos.teachers.local_model import find_weights
from stratos.teachers.words import UnreadableWeights

U32, STRING, ARRAY = 4, 8, 9
CPU_S, MOST_BYTES = 10, 2**30


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def field(name: str, kind: int, value: bytes) -> bytes:
    return text(name.encode()) + struct.pack("<I", kind) + value


def array(kind: int, length: int) -> bytes:
    return struct.pack("<IQ", kind, length)


def start(*fields: bytes, n_fields: int | None = None) -> bytes:
    n = len(fields) if n_fields is None else n_fields
    return b"GGUF" + struct.pack("<IQQ", 3, 1, n) + b"".join(fields)


def gguf(*fields: bytes, shape: tuple[int, ...] = (2, 4)) -> bytes:
    tensor = text(b"w") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, 0)
    return start(*fields) + tensor + bytes(64)


def template(source: str) -> bytes:
    return gguf(field("tokenizer.chat_template", STRING, text(source.encode())))


LLAMA = field("general.architecture", STRING, text(b"llama"))


def test_what_a_header_tells_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    tokens = field("tokens", ARRAY, array(STRING, 2) + text(b"a") + text(b"bc"))
    layers = field("llama.block_count", U32, struct.pack("<I", 1))
    path.write_bytes(gguf(LLAMA, layers, tokens))
    header = read_gguf(path)
    assert header.values == {"general.architecture": "llama", "llama.block_count": 1}
    assert (header.lengths, header.n_params, header.template) == ({"tokens": 2}, 8, "")
    assert why_no_gguf(path) is None


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 9**99999999 }}",
        "{{ 'a' * 2**40 }}",
    ],
)
def test_a_template_that_does_not_end_is_refused_before_anything_renders_it(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_chat, "SECONDS", 1.0)
    path = tmp_path / "a.gguf"
    path.write_bytes(template(source))
    reason = why_no_gguf(path)
    assert isinstance(reason, InFile) and isinstance(reason.why, Endless)
    assert isinstance(find_weights(str(path), None, None, None), UnreadableWeights)
    with pytest.raises(ForeignFileError, match=r"a\.gguf: its chat template .* does not end"):
        load_tokenizer(tmp_path, gguf_file=path.name)


WRONG = {
    "text of 2^60 bytes": (gguf(field("a", STRING, struct.pack("<Q", 2**60))), "truncated"),
    "name of 2^63 bytes": (gguf(struct.pack("<Q", 2**63)), "truncated"),
    "array of 2^60 numbers": (gguf(field("a", ARRAY, array(U32, 2**60))), "truncated"),
    "array of 2^60 texts": (gguf(field("a", ARRAY, array(STRING, 2**60))), "are the most"),
    "array of arrays": (gguf(field("a", ARRAY, array(ARRAY, 1) * 1000)), "an array of type 9"),
    "twice a template": (
        gguf(*[field("tokenizer.chat_template", STRING, text(b"a"))] * 2),
        "the field tokenizer.chat_template twice",
    ),
    "2^31 layers": (
        gguf(LLAMA, field("llama.block_count", U32, struct.pack("<I", 2**31))),
        "it states 2147483648 layers, and has 1 tensors",
    ),
    "layers in words": (
        gguf(LLAMA, field("llama.block_count", STRING, text(b"many"))),
        "it states 'many' layers",
    ),
    "tensor of 2^80 numbers": (gguf(shape=(2**40, 2**40)), "a tensor lies beyond its end"),
}
TRY = """
import resource, sys
from pathlib import Path
from stratos.models.pretrained import why_no_gguf
resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[2]),) * 2)
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[3]),) * 2)
print(why_no_gguf(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("name", WRONG)
def test_metadata_that_do_not_fit_are_refused(name: str, tmp_path: Path) -> None:
    content, why = WRONG[name]
    path = tmp_path / "a.gguf"
    path.write_bytes(content)
    told = str(why_no_gguf(path))
    assert why in told and "\n" not in told, told


@pytest.mark.parametrize(
    ("head", "n_bytes", "why"),
    [
        (start(field("a", ARRAY, array(STRING, 10**7))), 10**8, "10,000,002 fields, tokens"),
        (
            start(field("tokenizer.chat_template", STRING, struct.pack("<Q", 2**33))),
            2**34,
            "exceed 16 MiB",
        ),
        (start(field("a", STRING, struct.pack("<Q", 2**25))), 2**30, "None"),
        (start(n_fields=10**7), 2**30, "10,000,001 fields"),
        (start(field("a", ARRAY, array(STRING, 19 * 10**5))), 2**30, "None"),
    ],
    ids=["tokens", "template", "a text that is not kept", "fields", "a vocabulary that is read"],
)
def test_a_large_header_is_read_or_refused_in_seconds_and_a_gib(
    head: bytes, n_bytes: int, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(head)
    with path.open("r+b") as file:
        file.truncate(n_bytes)  # of zeros that take no room on the disk
    done = subprocess.run(
        [sys.executable, "-c", TRY, path, str(CPU_S), str(MOST_BYTES)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert why in done.stdout
