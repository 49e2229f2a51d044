"""Silence the loaders of transformers; our own errors replace their output."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Hide the bars, tables and warnings that loaders write, whatever logging is set up as."""
    from transformers.utils import logging

    before = logging.get_verbosity()  # sets up the log handler, which has to keep the real stderr
    shown = logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        # The GGUF loader draws its bar whatever it was told.
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(before)
        if shown:
            logging.enable_progress_bar()
