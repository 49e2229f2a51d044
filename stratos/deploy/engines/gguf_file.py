"""Write a bundle as a GGUF file, which llama.cpp and what is built on it load.

The tokenizer is written where llama.cpp has it: byte-level BPE with GPT-2's cut, or a list of words
of which the longest is taken. A file of any other tokenizer takes token ids alone. Its chat
template refuses every chat, so that programs which would tokenize by themselves say why, in place
of answering nonsense.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratos.core import extras
from stratos.core.atomic_files import replacing
from stratos.core.reasons import Because, Reason
from stratos.deploy.engines.base import ExportError, Message, export_path, facts_in
from stratos.deploy.engines.chat_ids import ChatIds, by_transformers, first_difference
from stratos.deploy.engines.cost import FORMATS
from stratos.models.pretrained import load_tokenizer

if TYPE_CHECKING:
    import numpy as np

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""`model_type` of a bundle's config to llama.cpp's name of the architecture."""
ROTATED_IN_PAIRS = frozenset(("llama",))
"""Those whose rotary embedding llama.cpp applies to neighbours; transformers does to halves."""
IDS_ONLY = (
    "This file takes token ids alone: GGUF cannot express its tokenizer. Serve its bundle with: "
    "stratos serve BUNDLE --engine llamacpp"
)
_REFUSAL = f"{{{{ raise_exception({json.dumps(IDS_ONLY)}) }}}}"
"""Chat template of such a file."""
_FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "q4_k_m": 15}
"""As llama.cpp numbers them."""


@dataclass(frozen=True)
class _Tokenizer:
    """What of a tokenizer a GGUF file can say."""

    words: list[str]
    kinds: list[int]
    """Normal, control or unused, as llama.cpp numbers them."""
    merges: list[str]
    cut: str
    """llama.cpp's name of what cuts a text before pairs are merged; "" if it has none."""
    unknown: int | None
    """What is none of the words of a list; None where a tokenizer is no such list."""


def cannot_export(bundle: Path, form: str) -> Reason | None:
    """Return why a bundle cannot be written in a format; None if it can."""
    return why_not_gguf(facts_in(bundle, "config.json"), form)


def why_not_gguf(facts: Mapping[str, Any], form: str) -> Reason | None:
    """Return why a model cannot be written in a format, by its config.json; None if it can."""
    kind = str(facts.get("model_type"))
    rope = facts.get("rope_parameters") or facts.get("rope_scaling") or {}
    if kind not in ARCHITECTURES:
        return Because(
            f"its architecture is {kind}, and those that can be written are "
            f"{', '.join(ARCHITECTURES)}"
        )
    if (rope_type := rope.get("rope_type", "default")) != "default":
        return Because(f"its rotary embedding is scaled ({rope_type}), which cannot be written yet")
    widths = sorted({int(facts["hidden_size"]), int(facts["intermediate_size"])})
    weights = FORMATS[form]
    if not weights.divides(*widths):
        needs = "a width" if weights.takes_other_rows else "widths"
        return Because(
            f"{form} needs {needs} that {weights.block_width} divides, and its widths are "
            f"{' and '.join(map(str, widths))}"
        )
    return None


def write_gguf(bundle: Path, path: Path, form: str, *, ids_only: bool = False) -> bool:
    """Write a bundle in a format, all of it or nothing; return whether the file has the tokenizer.

    Args:
        bundle: Hugging Face folder.
        path: file to write.
        form: f32, f16, q8_0 or q4_k_m.
        ids_only: leave the tokenizer out, though llama.cpp may have it.

    Raises:
        ExportError: the bundle cannot be written in this format.
    """
    if reason := cannot_export(bundle, form):
        raise ExportError(f"{bundle} cannot be written as {form}: {reason}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as staged:
        if form == "q4_k_m":
            whole = staged.with_suffix(".f32")
            can_cut = _write(bundle, whole, "f32", ids_only)
            try:
                _quantize(whole, staged, form)
            finally:
                whole.unlink()
        else:
            can_cut = _write(bundle, staged, form, ids_only)
    return can_cut


def _write(bundle: Path, path: Path, form: str, ids_only: bool) -> bool:
    import gguf

    facts = facts_in(bundle, "config.json")
    writer = gguf.GGUFWriter(path, ARCHITECTURES[facts["model_type"]])
    tokenizer = _tokenizer_of(bundle, int(facts["vocab_size"]))
    can_cut = bool(tokenizer.cut or tokenizer.unknown is not None) and not ids_only
    _add_facts(writer, facts, form)
    writer.add_token_list(tokenizer.words)
    writer.add_token_types(tokenizer.kinds)
    if tokenizer.unknown is not None:
        # Words of a user are cut out first, the longest first; what is left is one unknown token.
        writer.add_tokenizer_model("t5")
        writer.add_token_scores([0.0] * len(tokenizer.words))
        writer.add_unk_token_id(tokenizer.unknown)
        writer.add_add_space_prefix(False)
        writer.add_remove_extra_whitespaces(False)
        writer.add_add_eos_token(False)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(tokenizer.cut or "gpt-2")
        writer.add_token_merges(tokenizer.merges or ["a b"])  # llama.cpp wants one; none is used
    for name in ("eos_token_id", "bos_token_id", "pad_token_id"):
        for token in _token_ids(bundle, name)[:1]:
            getattr(writer, f"add_{name}")(token)
    writer.add_add_bos_token(False)  # a chat template writes its own
    writer.add_float32("general.sampling.temp", 0.0)  # where a request says nothing else
    writer.add_chat_template(load_tokenizer(bundle).chat_template if can_cut else _REFUSAL)
    quantized = {
        "f32": gguf.GGMLQuantizationType.F32,
        "f16": gguf.GGMLQuantizationType.F16,
        "q8_0": gguf.GGMLQuantizationType.Q8_0,
    }[form]
    for name, tensor in _tensors(bundle, facts):
        kind = quantized if tensor.ndim > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return can_cut


def _add_facts(writer: Any, facts: Mapping[str, Any], form: str) -> None:
    heads = int(facts["num_attention_heads"])
    head = int(facts.get("head_dim") or facts["hidden_size"] // heads)
    rope = facts.get("rope_parameters") or {}
    writer.add_file_type(_FILE_TYPES[form])
    writer.add_vocab_size(facts["vocab_size"])
    writer.add_context_length(facts["max_position_embeddings"])
    writer.add_embedding_length(facts["hidden_size"])
    writer.add_feed_forward_length(facts["intermediate_size"])
    writer.add_block_count(facts["num_hidden_layers"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(facts.get("num_key_value_heads") or heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(rope.get("rope_theta") or facts.get("rope_theta") or 10000.0))
    writer.add_layer_norm_rms_eps(facts["rms_norm_eps"])


def _token_ids(bundle: Path, name: str) -> list[int]:
    """Return special tokens of the generation config: where answers end, as they were measured."""
    for file in ("generation_config.json", "config.json"):
        ids = facts_in(bundle, file).get(name)
        if ids is not None:
            return ids if isinstance(ids, list) else [ids]
    return []


def end_ids(bundle: Path) -> frozenset[int]:
    """Return the tokens that end an answer."""
    return frozenset(_token_ids(bundle, "eos_token_id"))


def has_byte_pairs(bundle: Path) -> bool:
    """Return whether the pieces in a bundle's GGUF files are bytes; else each is a whole text."""
    return bool(_cut_of(json.loads((bundle / "tokenizer.json").read_text(encoding="utf-8"))))


def _tokenizer_of(bundle: Path, n_ids: int) -> _Tokenizer:
    """Return the pieces of a bundle's tokenizer, by id, and how llama.cpp would cut a text."""
    import gguf
    from gguf.vocab import bytes_to_unicode

    spec = json.loads((bundle / "tokenizer.json").read_text(encoding="utf-8"))
    model, added = spec["model"], {token["id"]: token for token in spec["added_tokens"]}
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # Unigram: piece and score
        vocabulary = {piece: index for index, (piece, _) in enumerate(vocabulary)}
    by_id = {index: word for word, index in vocabulary.items()}
    cut, is_word_list, byte = _cut_of(spec), _is_word_list(spec), bytes_to_unicode()
    words, kinds = [], []
    for index in range(n_ids):
        word = by_id.get(index, f"[unused {index}]")
        kind = gguf.TokenType.NORMAL if index in by_id else gguf.TokenType.UNUSED
        if is_word_list and index in by_id:
            kind = gguf.TokenType.USER_DEFINED
        elif not cut:
            word = "".join(byte[code] for code in word.encode())
        if index in added:
            word, is_special = str(added[index]["content"]), added[index]["special"]
            kind = gguf.TokenType.CONTROL if is_special else gguf.TokenType.USER_DEFINED
        words.append(word)
        kinds.append(int(kind))
    pairs = model.get("merges", []) if cut else []
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in pairs]
    unknown = vocabulary[model["unk_token"]] if is_word_list else None
    return _Tokenizer(words, kinds, merges, cut, unknown)


def has_tokenizer(path: Path) -> bool:
    """Return whether a file cuts chats by itself, and does not refuse them."""
    from gguf import GGUFReader

    field = GGUFReader(path).get_field("tokenizer.chat_template")
    return field is not None and field.contents() != _REFUSAL


def _is_word_list(spec: Mapping[str, Any]) -> bool:
    """Return whether a tokenizer looks up what a pattern matches, and puts it together again.

    Whether a text's pieces are its longest words, `deploy` compares, as for `_cut_of`. What a
    normalizer rewrites has to be rewritten by the chat template, too.
    """
    cutter, decoder = spec["pre_tokenizer"] or {}, spec["decoder"] or {}
    kinds = spec["model"]["type"], cutter.get("type"), decoder.get("type")
    return kinds == ("WordLevel", "Split", "Fuse")


def _cut_of(spec: Mapping[str, Any]) -> str:
    """Return llama.cpp's name for how a tokenizer cuts a text; "" where it has none.

    `deploy` compares the ids of the held-out questions, so a name is a claim that is checked.
    """
    model, cutter = spec["model"], spec["pre_tokenizer"] or {}
    if model["type"] != "BPE" or spec["normalizer"] is not None or model.get("byte_fallback"):
        return ""
    steps = cutter.get("pretokenizers", [cutter])
    first, last = steps[0], steps[-1]
    if last.get("type") != "ByteLevel" or last["add_prefix_space"]:
        return ""
    if not last.get("use_regex", True):
        return ""
    if len(steps) == 1:
        return "gpt-2"
    is_digits = first.get("type") == "Digits" and first.get("individual_digits")
    return "smollm" if len(steps) == 2 and is_digits else ""


def _tensors(bundle: Path, facts: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each weight by llama.cpp's name, in float32."""
    import gguf
    from safetensors import safe_open

    name = ARCHITECTURES[facts["model_type"]]
    arch = next(arch for arch, title in gguf.MODEL_ARCH_NAMES.items() if title == name)
    names = gguf.get_tensor_name_map(arch, int(facts["num_hidden_layers"]))
    heads = int(facts["num_attention_heads"])
    rows = {"q_proj": heads, "k_proj": int(facts.get("num_key_value_heads") or heads)}
    for file in sorted(bundle.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for key in weights.keys():  # noqa: SIM118 - no mapping
                if key == "lm_head.weight" and facts.get("tie_word_embeddings"):
                    continue
                gguf_name = names.get_name(key, try_suffixes=(".weight", ".bias"))
                if gguf_name is None:
                    raise ExportError(
                        f"{bundle} cannot be written as GGUF: llama.cpp knows no weight {key} of "
                        f"the architecture {name}."
                    )
                tensor = weights.get_tensor(key).float().numpy()
                part = key.split(".")[-2]
                if name in ROTATED_IN_PAIRS and part in rows:
                    tensor = _in_pairs(tensor, rows[part])
                yield gguf_name, tensor


def _in_pairs(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """Put the rows of each head's halves side by side: 0 and d/2, 1 and d/2 + 1, and so on."""
    half = weight.shape[0] // n_heads // 2
    shape = (n_heads, 2, half, *weight.shape[1:])
    return weight.reshape(shape).swapaxes(1, 2).reshape(weight.shape)


def _quantize(source: Path, path: Path, form: str) -> None:
    """Quantize a file with llama.cpp's own quantizer.

    Raises:
        ExportError: it is not installed, or refuses the file.
    """
    try:
        from llama_cpp_py_sync import _cffi_bindings as bindings
    except ImportError as error:
        raise ExportError(
            f"{form} needs llama.cpp's quantizer, which is not installed here. Type: "
            + extras.install("llamacpp")
        ) from error
    ffi, library = bindings.get_ffi(), bindings.get_lib()
    quiet = ffi.callback("ggml_log_callback", lambda *_: None)
    library.llama_log_set(quiet, ffi.NULL)
    library.llama_backend_init()
    params = ffi.new(
        "struct llama_model_quantize_params *", library.llama_model_quantize_default_params()
    )
    params.ftype = _FILE_TYPES[form]
    code = library.llama_model_quantize(str(source).encode(), str(path).encode(), params)
    library.llama_log_set(ffi.NULL, ffi.NULL)
    if code != 0:
        raise ExportError(f"llama.cpp could not quantize {source} to {form} (code {code}).")


# Make a bundle's GGUF files, and compare token by token how chats are cut.

_TOKENS_S = 120.0
_LOG_LINES = 6


def export(bundle: Path, forms: Sequence[str], chats: Sequence[list[Message]]) -> str:
    """Write a bundle's GGUF files; return what a program that loads one alone has to know.

    Where llama.cpp's own ids are not those of transformers, for every chat, the files are written
    without a tokenizer: the server of Stratos gives llama.cpp ids.

    Args:
        bundle: Hugging Face folder.
        forms: formats to write.
        chats: held-out questions.

    Raises:
        ExportError: the server would cut a chat otherwise than the evaluation, or llama.cpp does
            not load the file.
    """
    own, expected = ChatIds(bundle), by_transformers(bundle, chats)
    if where := first_difference(expected, [own.ids(chat) for chat in chats], own):
        raise ExportError(
            f"{bundle} cannot be served by llama.cpp: its tokenizer file gives other tokens than "
            f"the evaluation had ({where}). Serve it with deploy=transformers."
        )
    files = {form: export_path(bundle, f"{form}.gguf") for form in forms}
    first = min(forms, key=list(files).index)
    why = "GGUF cannot express the tokenizer"
    ids_only = not write_gguf(bundle, files[first], first)
    if not ids_only and (where := first_difference(expected, by_llama(files[first], chats), own)):
        why, ids_only = f"llama.cpp's own tokens are others ({where})", True
    for form in forms:
        if form != first or ids_only:
            write_gguf(bundle, files[form], form, ids_only=ids_only)
    if not ids_only:
        return (
            f"llama.cpp's own tokens are those of transformers for all {len(chats):,} questions: "
            "the files hold chat template and tokenizer."
        )
    return (
        f"The files take token ids alone: {why}. Serve them with the bundle; other programs refuse "
        "them."
    )


def by_llama(path: Path, chats: Sequence[list[Message]]) -> list[list[int]]:
    """Return the ids that llama.cpp makes of chats by the template and tokenizer in a file.

    Raises:
        ExportError: it does not load the file, or does not answer.
    """
    program = [sys.executable, "-P", "-m", "stratos.deploy.engines.llama_server"]
    try:
        done = subprocess.run(
            [*program, "tokens", str(path)],
            input="".join(json.dumps(chat) + "\n" for chat in chats),
            capture_output=True,
            text=True,
            timeout=_TOKENS_S,
        )
    except subprocess.TimeoutExpired:
        raise ExportError(
            f"llama.cpp did not cut {len(chats)} chats within {_TOKENS_S:g} seconds."
        ) from None
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) != len(chats):
        last = "\n".join(f"  {line}" for line in done.stderr.splitlines()[-_LOG_LINES:])
        raise ExportError(f"llama.cpp cannot load {path}. Its last lines:\n{last}")
    return [json.loads(line) for line in lines]
