"""What a tracking service is handed, and what it has to do with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stratos.config import Config

Cell = str | float | bool | None


@dataclass(frozen=True)
class Start:
    """What a run begins with."""

    config: Config
    name: str
    """Last two parts of the run folder."""
    group: str | None
    """`logger.group`, or the folder of the sweep that the run is a job of."""

    @property
    def folder(self) -> Path:
        """Return the run folder."""
        return self.config.run_dir


@dataclass(frozen=True)
class Table:
    """Rows of equal length below named columns; without secrets, and of bounded size."""

    name: str
    """Such as evaluate/answers."""
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Chart:
    """A table that is drawn: points, or a line for each value of the column `series`."""

    table: Table
    title: str
    x: str
    y: str
    kind: Literal["scatter", "lines"] = "scatter"
    series: str = ""


@dataclass(frozen=True)
class Artifact:
    """One result of a stage, and which others it was made from."""

    name: str
    type: str
    record: Path
    """JSON file that is kept whole."""
    files: tuple[Path, ...] = ()
    """Files and folders that belong to it. They may be large: only `logger.upload` sends them."""
    made_from: tuple[str, ...] = ()
    """Names of other artifacts of the run."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    is_input: bool = False
    """Whether another run made it, and this one only reads it."""


class Sink:
    """One service. Everything runs in its own thread, so that it may take its time and may fail."""

    title = ""
    """What messages call it."""

    def open(self, start: Start, warn: Callable[[str], None]) -> None:
        """Begin, or go on with, the run there; raises where that cannot be."""
        raise NotImplementedError

    def log(self, metrics: Mapping[str, float], axis: str, at: float) -> None:
        """Keep metrics.

        Args:
            metrics: by name, such as distill/loss.
            axis: what they are drawn over, such as distill/step; "" for nothing.
            at: value of the axis.
        """

    def summary(self, values: Mapping[str, Cell]) -> None:
        """Set the numbers that runs are compared by."""

    def table(self, table: Table) -> None:
        """Keep a table."""

    def chart(self, chart: Chart) -> None:
        """Keep a chart."""
        self.table(chart.table)

    def artifact(self, artifact: Artifact) -> None:
        """Keep an artifact."""

    def alert(self, title: str, text: str, is_error: bool) -> None:
        """Tell the user of something now."""

    def finish(self, exit_code: int) -> None:
        """End the run there; a code other than 0 marks it as failed."""
