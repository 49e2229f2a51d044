"""Servers that could not be had: a plan does without them for some hours, in their region first."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from stratos.catalog.residency import area_of, country_of
from stratos.config import CloudConfig, Config
from stratos.core.atomic_files import write_atomically
from stratos.core.context import Context
from stratos.core.errors import CapacityError
from stratos.executors import submission
from stratos.records import Probe, from_json
from stratos.run.run_state import RunState

NAME = "refused.json"
MOST = 5
"""Servers that one command cannot have, one after the other, before it is left to the user."""
WAIT_S = 600.0
"""Seconds until they are tried again where `limits.deadline_hours` leaves time for it."""
HOURS = 6.0
"""After which a server that could not be had is tried again."""


class Refusal(msgspec.Struct, frozen=True):
    """A server that could not be had, or a region in which no other one does."""

    why: str
    at: float
    """Seconds since the epoch."""


def without_refused(config: Config, typed: Config | None = None) -> Config:
    """Return the config with a quota of none for each server that its run could not have.

    The plan stays in the region of the last one, or, where no other server there does, in what
    `cloud.regions` and `cloud.residency` allow; without either, in the country or union of it.

    Args:
        config: of the run.
        typed: the config whose cloud the user typed; None for the same one.
    """
    typed = config if typed is None else typed
    plain = dict(typed.plain.get("cloud") or {})
    if not (refused := refused_of(config)):
        plain_now = {**config.plain, "cloud": plain}
        return config if typed is config else replace(config, cloud=typed.cloud, plain=plain_now)
    region = region_of(config)
    servers = [key for key in refused if key.count("/") > 1]
    none = [key for key in servers if region is None or key.startswith(f"{region}/")]
    changes: dict[str, Any] = _places(typed.cloud, [*refused][-1])
    quotas = dict.fromkeys(none, 0)
    cloud = replace(typed.cloud, **changes, quotas={**typed.cloud.quotas, **quotas})
    plain |= {name: [*places] for name, places in changes.items()}
    plain["quotas"] = {**(plain.get("quotas") or {}), **quotas}
    return replace(config, cloud=cloud, plain={**config.plain, "cloud": plain})


def _places(cloud: CloudConfig, key: str) -> dict[str, tuple[str, ...]]:
    """Return fields of the cloud: where the plan stands after a server or region was refused."""
    name, region, *server = key.split("/", 2)
    if server:
        return {"regions": (region,)}
    area = area_of(country_of(name, region, cloud.countries))
    return {"residency": (area,)} if area and not (cloud.regions or cloud.residency) else {}


def refused_of(config: Config) -> Mapping[str, Refusal]:
    """Return what could not be had of the clouds that a run rents from now, the latest last."""
    clouds, refused = config.cloud.providers, _read(config.run_dir)
    return {key: refused[key] for key in refused if not clouds or key.split("/")[0] in clouds}


def check_limits(state: RunState, typed: Config) -> None:
    """Plan with the servers that could not be had, too: else the lack of them is not the cause.

    Args:
        state: of the run.
        typed: the config whose cloud the user typed.

    Raises:
        CatalogError: there is no plan with them either.
        InfeasibleError: the same; the message says what to change.
    """
    from stratos.plan import plan

    config, probe = replace(state.config, cloud=typed.cloud), state.records.get("probe")
    if isinstance(probe, Probe):
        context = Context(config.run_dir, config.cache_dir, state.ledger)
        plan(config, probe, context, state.records.get("pilot"))


def region_of(config: Config) -> str | None:
    """Return the cloud and region that the plan of a run is limited to; None where it is not."""
    *_, last = ["", *refused_of(config)]
    cloud, _, rest = last.partition("/")
    region, _, server = rest.partition("/")
    return f"{cloud}/{region}" if server else None


def refuse(folder: Path, error: CapacityError) -> None:
    """Keep which server could not be had, and why."""
    _keep(folder, error.server, str(error))


def give_up(folder: Path, region: str, why: str) -> None:
    """Keep that no other server of a region does, and why."""
    _keep(folder, region, why)


def forget_old(folder: Path) -> None:
    """Let what could not be had hours ago be tried again, unless a job or a student is made."""
    if (folder / "distill").exists() or submission.has_any(folder):
        return  # on a server that could be had: another plan would begin anew
    refused = _read(folder)
    since = time.time() - HOURS * 3600
    fresh = {key: refusal for key, refusal in refused.items() if refusal.at > since}
    if fresh != refused:
        _write(folder, fresh)


def forget_all(folder: Path) -> bool:
    """Let all that could not be had be tried again; return whether there was anything."""
    if not _read(folder):
        return False
    _write(folder, {})
    return True


def _keep(folder: Path, key: str, why: str) -> None:
    refused = dict(_read(folder))
    refused.pop(key, None)  # the last one is the latest
    _write(folder, {**refused, key: Refusal(why, time.time())})


def _write(folder: Path, refused: Mapping[str, Refusal]) -> None:
    write_atomically(folder / NAME, msgspec.json.format(msgspec.json.encode(refused), indent=1))


def _read(folder: Path) -> Mapping[str, Refusal]:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return from_json((folder / NAME).read_bytes(), dict[str, Refusal])
    return {}
