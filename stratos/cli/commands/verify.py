"""`stratos verify FOLDER`: check a bundle's files, load it, and ask what is known."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stratos.core.errors import StratosError
from stratos.core.formats import counted, visible
from stratos.core.redact import shown
from stratos.deploy.bundle_server import MOST_TOKENS, answering, ask, longest_answer, serving_bundle
from stratos.deploy.engines.base import engine_named
from stratos.deploy.exports import RECORD, read_exports
from stratos.deploy.manifest import (
    KNOWN,
    MANIFEST,
    Known,
    bundle_in,
    check_manifest,
    fetched,
    is_url,
    made_by,
    read_known,
)
from stratos.deploy.signature import check_signature
from stratos.records import ServingSetting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = (
        "Check the files of a bundle by their SHA-256, load it, and ask it questions whose answers "
        "are known from the evaluation. Without --key it shows damage, not malice: who can change "
        "the files can change the SHA-256 beside them. Sign a bundle with: minisign -Sm "
        f"outputs/<run>/bundle/{MANIFEST}"
    )
    parser.epilog = "example: stratos verify outputs/<run>/bundle"
    parser.add_argument("place", help="bundle, the folder of its run, or the URL of a copy")
    parser.add_argument(
        "--key", metavar="FILE", help="public key of minisign: refuse what it has not signed"
    )


def run(args: argparse.Namespace) -> None:
    """Check a bundle, which may be a copy behind a URL.

    Raises:
        StratosError: it is not what was made, or that cannot be told.
    """
    if is_url(args.place):
        with tempfile.TemporaryDirectory() as folder:
            verify(fetched(args.place, Path(folder)), args.key)
    else:
        verify(Path(args.place), args.key)


def verify(folder: Path, key: str | None = None) -> None:
    """Check a bundle and print what was found.

    Args:
        folder: of the bundle, or of its run.
        key: a public key of minisign, or its file; None asks for no signature.

    Raises:
        StratosError: it is not signed by the key, files have changed, it cannot be loaded, an
            answer differs, or none is known.
    """
    bundle = bundle_in(folder)
    if key is not None:
        print(f"Signed by the key that you gave: {shown(check_signature(bundle / MANIFEST, key))}.")
    n_files = counted(check_manifest(bundle), "file")
    print(visible(f"{bundle}: {n_files}, all as they were made."))
    if made := made_by(bundle):
        print(f"{made}.")
    known = read_known(bundle)
    if not known:
        raise StratosError(
            f"{bundle}: its files are as its manifest says, and it holds no known answers "
            f"({KNOWN}): nothing was compared. Each run writes some, so that it was changed. Give "
            "the command of its run again."
        )
    texts = answering(bundle)([answer.messages for answer in known])
    wrong = [answer for answer, text in zip(known, texts, strict=True) if text != answer.text]
    for answer, text in zip(known, texts, strict=True):
        if text != answer.text:
            print(f"  asked   {answer.messages[-1]['content']!r}\n  before  {answer.text!r}\n"
                  f"  now     {text!r}")  # fmt: skip
    if wrong:
        raise StratosError(
            f"{counted(len(wrong), 'answer')} of {len(known)} differ from the evaluation's. Other "
            "versions of torch or transformers may round differently; many differences mean that "
            "the model is not what was measured."
        )
    print(f"{counted(len(known), 'known question')} answered as in the evaluation.")
    _verify_exports(bundle, known)


def _verify_exports(bundle: Path, known: Sequence[Known]) -> None:
    """Ask each export the known questions, by the engine that serves it.

    Raises:
        StratosError: the engine does not load one, or answers otherwise than when it was made.
    """
    exports = read_exports(bundle)
    for export in exports.formats if exports is not None else ():
        if exports is None or not export.is_kept:
            continue
        engine = engine_named(exports.engine)
        if len(export.known) != len(known):
            raise StratosError(
                f"{RECORD} of {bundle} has {counted(len(export.known), 'answer')} of "
                f"{export.format} to {counted(len(known), 'known question')}: it is not what was "
                "made. Copy the bundle anew, or give the command of its run again."
            )
        if (why := engine.unusable()) is not None:
            print(f"{export.format}: not asked. {why}")
            continue
        texts = _served(bundle, replace(engine.setting(), format=export.format), known)
        n_other = sum(text != before for text, before in zip(texts, export.known, strict=True))
        if n_other:
            raise StratosError(
                f"{export.format} for {engine.title}: {counted(n_other, 'answer')} of {len(known)} "
                f"differ from when it was made with {exports.version}. Another version of the "
                "engine "
                "may round differently; many differences mean that the file is not what was "
                "measured."
            )
        print(
            f"{export.format}: {counted(len(known), 'known question')} answered by {engine.title} "
            "as "
            "when it was made."
        )


def _served(bundle: Path, run: ServingSetting, known: Sequence[Known]) -> list[str]:
    """Return what the server of an export answers.

    Raises:
        StratosError: it does not start or answer.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        serving_bundle(bundle, run, Path(folder) / "server.log") as server,
    ):
        most = longest_answer(bundle) or MOST_TOKENS
        return [ask(server.port, answer.messages, most) for answer in known]
