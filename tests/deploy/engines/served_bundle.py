"""A bundle of random weights with exports for llama.cpp, and what it is asked."""

from __future__ import annotations

import http.client
import json
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


def make_bundle(folder: Path, forms: tuple[str, ...] = ("f32", "q8_0"), heads: int = 4) -> Path:
    """Write a model of random weights, whose answers are decided: no two tokens come close."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

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
        export(folder, forms, CHATS)
    return folder


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
