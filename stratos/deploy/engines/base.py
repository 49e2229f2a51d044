"""The contract of a serving engine: how it starts, what it loads, what it costs and loses.

A plan, a record and the command line name an engine by its kind. The class is found where a
shipped YAML names it with `_target_`, or one of a user's own that was loaded with a config.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import yaml
from msgspec import Meta

from stratos.core import extras
from stratos.core.errors import StratosError, did_you_mean
from stratos.core.extensions import conf_dirs
from stratos.core.reasons import Reason
from stratos.core.trust import find_class
from stratos.deploy.engines.cost import OWN_WEIGHTS, ServingCost, WeightFormat

if TYPE_CHECKING:
    from stratos.records import ModelCard, ServingSetting

Count = Annotated[int, Meta(ge=1)]
Measure = Literal["probability", "agreement"]
Devices = Literal["any", "cpu", "gpu"]
Message = dict[str, str]
"""One message of a chat: its role and its content."""

_ENGINES = ("engine", "engines")
"""Keys of `deploy` that hold engines."""
EXPORTS = "exports"
"""Folder of a bundle that holds what was exported for other engines."""


class NotInstalled(Reason):
    """An engine is not installed on this machine."""

    title: str
    how_to_install: str
    variable: str = ""
    """Variable of the environment that may name another one which has it."""

    def __str__(self) -> str:
        text = f"{self.title} is not installed here. Type: {self.how_to_install}"
        if not self.variable:
            return text
        return f"{text}. If another environment has it, type: export {self.variable}=<its folder>"


class ExportError(StratosError):
    """An engine cannot serve a student as transformers does; transformers itself can."""


@dataclass(frozen=True)
class Engine:
    """A program that serves a bundle, with its settings (`deploy.engine`).

    It answers `GET /health` with 200 when it has loaded the model, `GET /v1/models`, and
    `POST /v1/chat/completions`, streamed too.
    A subclass is a frozen dataclass that gives each class attribute without a value one of its
    own. Its fields are settings, which have defaults.
    """

    code_version: ClassVar[int] = 1
    """Raised when the code of the class serves or exports otherwise: records are made anew then."""
    kind: ClassVar[str]
    """Name in plans, in records, and on the command line."""
    title: ClassVar[str]
    """Name in a sentence."""
    needs: ClassVar[tuple[str, ...]]
    """Modules without which it cannot be started."""
    program: ClassVar[str]
    """What a user types to start it, before its arguments."""
    module: ClassVar[str]
    """The same, as for `python -m`."""
    cost: ClassVar[ServingCost]
    """What an answer takes it beside the arithmetic of the model."""
    packages: ClassVar[tuple[str, ...]]
    """What is installed on its server, as requirements; the versions are those of this machine,
    where it has them."""
    extra: ClassVar[str] = ""
    """Extra of Stratos that installs it; "" where `pip install` takes the packages."""
    system_packages: ClassVar[tuple[str, ...]] = ()
    """Packages of Debian without which it does not run."""
    uses_torch: ClassVar[bool] = False
    """Whether PyTorch is among them, or comes with them."""
    note: ClassVar[str] = "It answers several requests at once."
    """What its user has to know, as a comment of the service file."""
    wants: ClassVar[str] = "memory for the model"
    """What a server and a model have to have."""
    devices: ClassVar[Devices] = "any"
    """Servers that it runs on."""
    unsupported_gpus: ClassVar[tuple[str, ...]] = ()
    """GPUs that it does not run on."""
    is_fallback: ClassVar[bool] = False
    """Whether it is left out on GPUs that another engine of the choice runs on."""
    weight_formats: ClassVar[tuple[WeightFormat, ...]] = (OWN_WEIGHTS,)
    """Formats that a plan may have it serve."""
    serves_formats: ClassVar[bool] = False
    """Whether it serves a format that is named, and not the bundle's own weights alone."""
    makes_files: ClassVar[bool] = False
    """Whether its formats are files of their own; else it makes them of the bundle when it loads
    it."""
    measures: ClassVar[tuple[Measure, ...]] = ("agreement",)
    """By what a cascade can tell how sure its answers are, the best first: probability, where it
    tells that of each token, and agreement, where it draws answers."""
    start_s: ClassVar[float] = 180.0
    """Seconds from its start to its first answer, at most."""

    at_once: Count = 1
    """Answers at once."""

    def __post_init__(self) -> None:
        """Check that the class is complete.

        Raises:
            TypeError: it lacks a class attribute.
        """
        if type(self) is Engine:
            raise TypeError("name the class of the engine with _target_")
        if missing := self.lacks():
            raise TypeError(f"the engine {type(self).__name__} lacks {', '.join(missing)}")

    @classmethod
    def lacks(cls) -> list[str]:
        """Return the class attributes that a subclass has not given a value."""
        return [name for name in _REQUIRED if not any(name in vars(base) for base in cls.__mro__)]

    @property
    def is_ours(self) -> bool:
        """Whether its server is code of Stratos, which is installed from the wheel of here."""
        return self.module.startswith("stratos.")

    @property
    def why_left_out(self) -> Reason | None:
        """Why a plan does not choose it: it cannot be tried here, and has to be; None if it may."""
        return self.unusable() if self.exports else None

    @property
    def exports(self) -> tuple[str, ...]:
        """Formats that are compared with the evaluation; none where it serves the bundle's own."""
        return ()

    @property
    def python(self) -> str:
        """Interpreter that has its packages here."""
        return sys.executable

    @property
    def environment(self) -> dict[str, str]:
        """Variables that it finds when it is started here, where the user has not set them."""
        return {}

    @property
    def served(self) -> str:
        """Return the format that is served; "" for the bundle's own weights."""
        return ""

    def weight_format(self, name: str) -> WeightFormat:
        """Return a format by its name; the first where it has none of that name."""
        formats = self.weight_formats
        return next((form for form in formats if form.name == name), formats[0])

    def cannot_serve(self, card: ModelCard) -> Reason | None:
        """Return why it serves no model of such a shape; None if it does."""
        return None

    def cannot_export(self, bundle: Path, form: str) -> Reason | None:
        """Return why a bundle cannot be exported in a format; None if it can."""
        return None

    def export(self, bundle: Path, forms: Sequence[str], chats: Sequence[list[Message]]) -> str:
        """Make exports of a bundle; return what has to be known about them.

        Args:
            bundle: Hugging Face folder.
            forms: formats, of `exports`.
            chats: questions that the engine has to cut into the same tokens as transformers.

        Raises:
            ExportError: they cannot be made, or the engine would read a question otherwise.
        """
        return ""

    def write_settings(self, bundle: Path, form: str, chats: Sequence[list[Message]]) -> str:
        """Write what other programs need beside an export; return which of them load it.

        Args:
            bundle: holds the export.
            form: its format.
            chats: held-out questions.
        """
        return ""

    def file_of(self, bundle: Path, form: str) -> Path:
        """Return where an export lies."""
        return export_path(bundle, form)

    def n_bytes(self, bundle: Path, form: str) -> int:
        """Return the bytes of the weights in a format."""
        return self.file_of(bundle, form).stat().st_size

    def compare_tokens(self, url: str, bundle: Path, chats: Sequence[list[Message]]) -> str:
        """Compare how its server cuts chats with transformers; return what has to be known.

        Args:
            url: address of its server.
            bundle: what it serves.
            chats: questions.

        Raises:
            ExportError: it reads a question otherwise.
        """
        return ""

    def setting(self, slots: int | None = None) -> ServingSetting:
        """Return how it is run.

        Args:
            slots: answers at once; None for its own.
        """
        from stratos.records import ServingSetting  # what only composes a config needs none

        return ServingSetting(self.kind, slots=slots or self.at_once, format=self.served)

    def as_planned(self, run: ServingSetting) -> Self:
        """Return the engine as a plan runs it."""
        return replace(self, at_once=run.slots)

    def version(self) -> str:
        """Return its package with its version."""
        name = self.needs[0]
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            return name

    def unusable(self) -> Reason | None:
        """Return why it cannot be started here; None if it can."""
        if all(find_spec(name) is not None for name in self.needs):
            return None
        return NotInstalled(self.title, self.how_to_install)

    @property
    def how_to_install(self) -> str:
        """Command that installs it."""
        packages = " ".join(f'"{package}"' for package in self.packages)
        return extras.install(self.extra) if self.extra else f"pip install {packages}"

    def arguments(
        self, model: str, host: str, port: int, run: ServingSetting, n_devices: int, context: int
    ) -> list[str]:
        """Return the arguments of its program that serve one model.

        Args:
            model: folder.
            host: address that it listens on.
            port: the same.
            run: how it is run.
            n_devices: GPUs of the server.
            context: tokens of the longest chat with its answer.
        """
        options = self.options(run, n_devices, context)
        return ["serve", model, "--host", host, "--port", str(port), *options]

    def sampling(self, bundle: Path, temperature: float) -> dict[str, Any]:
        """Return the options of a request with which its server draws answers of a bundle."""
        return {"top_p": 1}

    def options(self, run: ServingSetting, n_devices: int, context: int) -> list[str]:
        """Return those beside model and address; see `arguments`."""
        return []


_REQUIRED = ("kind", "title", "packages", "needs", "program", "module", "cost")


def export_path(bundle: Path, name: str) -> Path:
    """Return where an export of a bundle lies."""
    return bundle / EXPORTS / name


def facts_in(bundle: Path, name: str) -> dict[str, Any]:
    """Return what a JSON file of a bundle says; nothing where it cannot be read."""
    try:
        facts: dict[str, Any] = json.loads((bundle / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts


def engines() -> dict[str, Engine]:
    """Return every engine by its kind, each with its default settings.

    Those of a user's own are among them once their class is imported.
    """
    _import_shipped()
    classes = sorted(_classes(Engine), key=lambda cls: cls.kind)
    return {cls.kind: cls() for cls in classes}


def engine_named(kind: str) -> Engine:
    """Return an engine by its kind, with its default settings.

    Raises:
        StratosError: there is none.
    """
    known = engines()
    if kind not in known:
        raise StratosError(
            f"There is no serving engine {kind}.{did_you_mean(kind, known)} Known: "
            f"{', '.join(sorted(known))}. If its YAML is in a folder of yours, name that with "
            "--config-dir <folder>."
        )
    return known[kind]


def compiled_kinds() -> list[str]:
    """Return the kinds of the engines whose host is no Python."""
    return [kind for kind, engine in engines().items() if engine.cost.is_compiled]


def import_engines(folder: Path) -> None:
    """Import the engines that the YAMLs of a config folder name (`<folder>/deploy/*.yaml`)."""
    for path in sorted((folder / "deploy").glob("*.yaml")):
        _import_of(yaml.safe_load(path.read_text(encoding="utf-8")))


def import_engines_of_run(folder: Path) -> None:
    """Import the engines that the config of a run names; none where it was not kept."""
    path = folder / ".hydra" / "config.yaml"
    if path.is_file():
        composed = yaml.safe_load(path.read_text(encoding="utf-8"))
        _import_of(composed.get("deploy") if isinstance(composed, Mapping) else None)


@cache
def _import_shipped() -> None:
    import_module("stratos.deploy.engines.predictor")  # no YAML names it: bundles choose it
    for folder in conf_dirs():
        import_engines(folder)


def _import_of(deploy: Any) -> None:
    """Import the engines of one choice of `deploy`; what may not be imported stays unknown."""
    if isinstance(deploy, Mapping):
        for key in _ENGINES:
            for target in _targets(deploy.get(key)):
                find_class(target)


def _targets(node: Any) -> Iterator[Any]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield node["_target_"]
        for value in node.values():
            yield from _targets(value)


def _classes(base: type[Engine]) -> Iterator[type[Engine]]:
    """Yield the classes below one that are of a kind of their own."""
    for cls in base.__subclasses__():
        if "kind" in vars(cls) and not cls.lacks():
            yield cls
        yield from _classes(cls)
