"""A bundle of random weights with exports for llama.cpp, and what it is asked."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from stratos.deploy.bundle_server import environment_of, serve_arguments
from stratos.deploy.engines.gguf_file import export
from stratos.deploy.server import HOST, Server, free_port, serving
from stratos.distill.tokenizer import trained_tokenizer
from stratos.records import ServingSetting

CHATS = [
    [{"role": "user", "content": text}]
    for text in ("How many orders?", "late orders of 日本 🀄", "a b  c\nd", "42 and 17")
]


def make_bundle(
    folder: Path,
    forms: tuple[str, ...] = ("f32", "q8_0"),
    heads: int = 4,
    tokenizer: Any = None,
    chats: list[list[dict[str, str]]] = CHATS,
) -> Path:
    """Write a model of random weights, whose answers are decided: no two tokens come close."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    if tokenizer is None:
        tokenizer = trained_tokenizer([chat[0]["content"] for chat in CHATS] * 3, 320)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=heads,
        num_key_value_heads=heads // 2, intermediate_size=256, max_position_embeddings=256,
        tie_word_embeddings=True, initializer_range=0.2, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # tokens that are a part of a character alone are never the likeliest
        for one in range(len(tokenizer)):
            if "\ufffd" in tokenizer.decode([one]):
                model.model.embed_tokens.weight[one] = 0
    model.save_pretrained(folder)
    GenerationConfig(
        do_sample=False, max_new_tokens=24, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(folder)  # fmt: skip
    if forms:
        export(folder, forms, chats)
    return folder


def fitted_bundle(folder: Path) -> Path:
    """Make a bundle whose model lost a layer, and the tokens that the chats do not have."""
    from stratos.distill.tokenizer import save_student
    from stratos.models.pretrained import load_model, load_tokenizer
    from stratos.models.pretrained.depth import keep_layers
    from stratos.models.pretrained.vocabulary import cut_model, cut_tokenizer, model_vocabulary

    rows = [chat[0]["content"] for chat in CHATS] + ["payments that were refunded in November"]
    whole = make_bundle(folder / "whole", (), 2, trained_tokenizer(rows * 3, 400))
    model, tokenizer = load_model(whole, dtype="float32"), load_tokenizer(whole)
    texts = [
        tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        for chat in CHATS
    ]
    vocabulary = model_vocabulary(model, tokenizer, texts)
    cut_model(model, vocabulary)
    keep_layers(model, [1])
    assert len(vocabulary.ids) < len(tokenizer)
    save_student(model, cut_tokenizer(tokenizer, vocabulary), folder / "fitted")
    return folder / "fitted"


def by_transformers(bundle: Path) -> list[str]:
    """Return what transformers answers, greedily."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bundle)
    model = AutoModelForCausalLM.from_pretrained(bundle)
    texts = []
    for chat in CHATS:
        inputs = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        output = model.generate(**inputs, max_new_tokens=24)
        answer = output[0, inputs["input_ids"].shape[1] :]
        texts.append(tokenizer.decode(answer, skip_special_tokens=True))
    assert len(set(texts)) == len(CHATS) and all(len(text) > 8 for text in texts)
    return texts


ALONE = """
import json, sys
import httpx, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_parallel, params.verbosity, params.ui = sys.argv[1], 1, 1, False
params.n_ctx, params.cpuparams.n_threads, params.cache_ram_mib = int(sys.argv[2]), 1, 0
params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
server = xllamacpp.Server(params)
url = f"{server.listening_address}/v1/chat/completions"
for line in sys.stdin:
    answer = httpx.post(url, json=json.loads(line), timeout=60, trust_env=False).json()
    print(json.dumps(answer["choices"][0]["message"]["content"]), flush=True)
"""
"""llama.cpp's own server, which is given a GGUF file and nothing else of the bundle."""


def by_llama_alone(
    file: Path, chats: Sequence[list[dict[str, str]]], most: int, context: int = 256
) -> list[str]:
    """Return what llama.cpp's own server answers, to a client that sends messages alone."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(file), str(context)],
        input="".join(json.dumps({"messages": chat, "max_tokens": most}) + "\n" for chat in chats),
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def served(
    bundle: Path, run: ServingSetting, module: str, folder: Path
) -> AbstractContextManager[Server]:
    """Serve a bundle with a context of 256 tokens; the log lies in a folder."""
    port = free_port()
    return serving(
        serve_arguments(str(bundle), HOST, port, run, context=256),
        port=port,
        log_path=folder / "server.log",
        module=module,
        environment=environment_of(bundle),
    )


def call(server: Server, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Return the status and the text of an answer."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=60)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, response.read()


def post(server: Server, **body: Any) -> tuple[int, Any]:
    """Return the status and the answer to a request for a chat."""
    data = json.dumps({"model": "m", **body}).encode()
    status, text = call(server, "POST", "/v1/chat/completions", data)
    return status, json.loads(text)
