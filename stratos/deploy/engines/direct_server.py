"""Serve a bundle with the decoder of the evaluation, as an OpenAI-compatible server.

    python -m stratos.deploy.engines.direct_server serve BUNDLE --port 8000

Weights are those of the bundle, in float32. It takes small Llamas, on a CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from stratos.core.errors import StratosError
from stratos.deploy.engines.chat_ids import ChatError, ChatIds, first_stop
from stratos.deploy.engines.chat_request import (
    NOT_SERVED,
    AnswerForms,
    ChatRequest,
    longest_answer,
    whole_answer,
)
from stratos.deploy.engines.gguf_file import end_ids
from stratos.deploy.engines.http_api import (
    LEAST_LOGPROB,
    StreamParts,
    api_error,
    handled,
    name_of,
    run,
    streamed,
    usage_of,
    web_application,
)
from stratos.deploy.engines.sampling import Sampler
from stratos.deploy.engines.slot_writer import Answer, SlotWriter
from stratos.models.decode.constrained import Grammar, Grammars
from stratos.models.decode.decoder import SlotDecoder, slot_decoder

LONG = 2**14
"""Bytes of a request from which it is read in a thread, so that the others go on."""
EVENT_S = 0.04
"""Between two events of a stream: each has what was written meanwhile. An event for each token
would take longer than the token."""


def main(argv: Sequence[str] | None = None) -> None:
    """Serve a bundle until the process ends; exit with 1 where it cannot be decoded."""
    parser = argparse.ArgumentParser(prog="python -m stratos.deploy.engines.direct_server")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve a bundle until the process ends")
    serve.add_argument("bundle", type=Path)
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--slots", type=int, default=8, help="answers at once")
    serve.add_argument("--context", type=int, default=8192, help="tokens of the longest chat")
    args = parser.parse_args(argv)
    try:
        app = application(args.bundle, args.slots, args.context)
    except StratosError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(1)
    # What was loaded stays: the collector of garbage would look through all of it again and again.
    gc.collect()
    gc.freeze()
    run(app, args.host, args.port)


def application(bundle: Path, slots: int, context: int) -> Starlette:
    """Return the web application that answers chats with a bundle's answers.

    Args:
        bundle: Hugging Face folder.
        slots: answers at once; `MOST_WAITING` more requests wait.
        context: tokens of the longest chat with its answer.

    Raises:
        StratosError: no decoder takes its model.
    """
    from stratos.models.pretrained import load_model

    model = load_model(bundle, dtype="auto").eval()
    context = min(context, model.config.max_position_embeddings)
    front = _Front(bundle, slot_decoder(model, slots, context), slots, context)
    return web_application(front.model, front.chat)


class _Front:
    """The OpenAI API of one student."""

    def __init__(self, bundle: Path, decoder: SlotDecoder, slots: int, context: int) -> None:
        self.model = name_of(bundle)
        self._context, self._most_tokens = context, longest_answer(bundle)
        self._chats, self._forms, self._ends = ChatIds(bundle), AnswerForms(bundle), end_ids(bundle)
        self._width = decoder.vocabulary
        self._grammars = Grammars(self._chats.tokenizer, sorted(self._ends))
        self._writer = SlotWriter(decoder, slots, self._ends)

    async def chat(self, http: Request) -> Response:
        """Answer a chat, at once or in parts."""
        return await handled(http, self._writer.n_waiting, self._answered)

    async def _answered(self, data: bytes) -> Response:
        try:
            if len(data) > LONG or b"response_format" in data:
                request, prompt, form, grammar = await run_in_threadpool(self._read, data)
            else:  # faster than to hand it to a thread
                request, prompt, form, grammar = self._read(data)
        except (ChatError, ValueError) as error:
            return api_error(400, str(error))
        if request.stream:
            parts = self._parts(request, prompt, grammar)
            return streamed(self.model, parts, request.with_usage)
        answer = self._begun(request, prompt, grammar)
        text = _Text(self._chats, self._ends, request.stops)
        try:
            while request.stops and not text.read(answer):
                await asyncio.wait([answer.over], timeout=EVENT_S)
            if not text.is_cut:
                await answer.over
        except StratosError as error:
            return api_error(500, str(error))
        finally:
            self._writer.leave(answer)
        n_tokens = text.n_tokens if text.is_cut else len(answer.ids)
        return self._whole(request, answer, n_tokens, form)

    def _read(self, data: bytes) -> tuple[ChatRequest, list[int], dict[str, Any], Grammar | None]:
        """Return a request, the tokens of its chat, the form of its answer, and its grammar.

        Raises:
            ValueError, ChatError: it cannot be answered.
        """
        request = ChatRequest.read(data, NOT_SERVED)
        form = self._forms.options(request.response_format)
        prompt = self._chats.ids(request.chat, request.tools or None, self._context - 1)
        if not prompt or max(prompt) >= self._width:
            raise ChatError("messages: the model has no tokens for this chat.")
        schema = form.get("json_schema")
        grammar = schema and self._grammars.of(json.dumps(schema), self._width)
        return request, prompt, form, grammar

    def _begun(self, request: ChatRequest, prompt: list[int], grammar: Grammar | None) -> Answer:
        answer = Answer(
            prompt,
            min(request.most_tokens or self._most_tokens, self._context - len(prompt)),
            Sampler(request.sampling),
            grammar,
            bool(request.logprobs),
        )
        self._writer.add(answer)
        return answer

    def _whole(
        self, request: ChatRequest, answer: Answer, n_tokens: int, form: dict[str, Any]
    ) -> Response:
        """Return an answer as the API has it."""
        text = self._text(answer, n_tokens)
        logprobs = self._logprobs(answer, n_tokens) if request.logprobs else None
        return whole_answer(
            self.model, request, text, self._finish(answer), _usage(answer, n_tokens), logprobs,
            self._forms.fits(text, form),
        )  # fmt: skip

    async def _parts(
        self, request: ChatRequest, prompt: list[int], grammar: Grammar | None
    ) -> StreamParts:
        """Yield an answer's texts as they are made, and why it ended; nothing is begun before."""
        answer = self._begun(request, prompt, grammar)
        written, n_sent = _Text(self._chats, self._ends, request.stops), 0
        n_unsure = max(map(len, request.stops), default=1) - 1  # may begin a stop sequence
        try:
            await answer.begun
            while not written.read(answer):
                if (n_sure := len(written.text) - n_unsure) > n_sent:
                    yield written.text[n_sent:n_sure]
                    n_sent = n_sure
                await asyncio.wait([answer.over], timeout=_until_next())
            if not written.is_cut and (error := answer.over.exception()):
                yield api_error(500, str(error))
                return
        finally:
            self._writer.leave(answer)
        text = self._text(answer, written.n_tokens)  # a part of a character at its end, too
        if not text.startswith(written.text[:n_sent]):
            text = written.text
        cut = first_stop(text, request.stops)
        finish = "stop" if cut < len(text) else self._finish(answer)
        yield text[n_sent:cut], finish, _usage(answer, written.n_tokens)

    def _text(self, answer: Answer, n_tokens: int) -> str:
        ids = answer.ids[:n_tokens]
        return self._chats.text(ids[:-1] if ids[-1] in self._ends else ids)

    def _finish(self, answer: Answer) -> str:
        return "stop" if answer.ids[-1] in self._ends else "length"

    def _logprobs(self, answer: Answer, n_tokens: int) -> list[dict[str, Any]]:
        """Return the log-probabilities of tokens as the API has them, the end token's too."""
        tokens = self._chats.tokenizer.convert_ids_to_tokens(answer.ids[:n_tokens])
        return [
            {"token": token or "", "logprob": max(LEAST_LOGPROB, logprob), "top_logprobs": []}
            for token, logprob in zip(tokens, answer.logprobs[:n_tokens], strict=True)
        ]


class _Text:
    """The text of an answer while it is written, up to the token that completes a stop sequence."""

    def __init__(self, chats: ChatIds, ends: frozenset[int], stops: Sequence[str]) -> None:
        from tokenizers.decoders import DecodeStream

        self._decoder = DecodeStream(ids=[], skip_special_tokens=True)
        self._tokenizer = chats.tokenizer.backend_tokenizer
        self._ends, self._stops = ends, stops
        self._longest = max(map(len, stops), default=0)
        self.text = ""
        self.n_tokens = 0
        """That the text is of, the end token included."""
        self.is_cut = False
        """Whether a stop sequence is in the text."""

    def read(self, answer: Answer) -> bool:
        """Read what is new; return whether nothing more will be read."""
        is_over = answer.over.done()  # before its tokens are looked at
        for token in answer.ids[self.n_tokens :]:
            self.n_tokens += 1
            if token in self._ends:
                break
            step = self._decoder.step(self._tokenizer, token) or ""
            self.text += step
            last = self.text[-len(step) - self._longest :]
            if step and self._stops and first_stop(last, self._stops) < len(last):
                self.is_cut = True
                return True
        return is_over


def _until_next() -> float:
    """Return the seconds until a stream goes on, `EVENT_S` but for a half: all do so together."""
    rest = EVENT_S - asyncio.get_running_loop().time() % EVENT_S
    return rest if rest > EVENT_S / 2 else rest + EVENT_S


def _usage(answer: Answer, n_tokens: int) -> dict[str, int]:
    return usage_of(len(answer.prompt), n_tokens)


if __name__ == "__main__":
    main()
