"""Why nothing can be launched with SkyPilot."""

from __future__ import annotations

from stratos.core import extras
from stratos.core.reasons import Reason


class NoSky(Reason):
    """SkyPilot's program is nowhere."""

    program: str

    def __str__(self) -> str:
        return (
            f"executor=skypilot: there is no program {self.program}. Type: "
            f"{extras.install('skypilot', 'skypilot[aws]')} (or another cloud), or name that of "
            "another environment with executor.program=<path of sky>."
        )


class NoProgram(Reason):
    """A program that files are sent with is nowhere."""

    program: str

    says = "executor=skypilot: there is no {program} on the PATH. Install it."


class BrokenSky(Reason):
    """SkyPilot's program does not say its version."""

    path: str
    error: str
    """In its own words."""

    says = (
        "executor=skypilot: {path} --version fails ({error}). Type: pip install "
        "'skypilot[aws]' (or another cloud)."
    )


class OldSky(Reason):
    """SkyPilot lacks what is asked of it."""

    version: str
    oldest: str

    says = (
        "executor=skypilot: SkyPilot {version} is too old. Type: pip install 'skypilot>={oldest}'"
    )


class NoCloud(Reason):
    """SkyPilot has no credentials."""

    says = (
        "executor=skypilot: SkyPilot may use no cloud: sky check finds no credentials. Type "
        "sky check, which says for each cloud what it lacks, or type executor=here."
    )


class NoPrice(Reason):
    """Another server than the plan's has no price."""

    says = (
        "executor.infra, executor.instance_type and executor.accelerators ask for another "
        "server than the plan's, whose price is not known. Type "
        "executor.usd_per_hour=<dollars>."
    )
