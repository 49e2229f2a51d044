"""The Dockerfile: what it copies is there and is all that the wheel needs, and who runs it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINES = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text()).splitlines()
INSTRUCTIONS = [line.split(maxsplit=1) for line in LINES if line and not line.startswith("#")]


def of(name: str) -> list[str]:
    return [rest for instruction, rest in INSTRUCTIONS if instruction == name]


def test_it_runs_stratos_as_a_user_without_rights():
    known = {"FROM", "ARG", "COPY", "RUN", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}
    assert {instruction for instruction, _ in INSTRUCTIONS} <= known
    assert all(re.match(r"python:3\.\d+-slim\b", image) for image in of("FROM"))
    assert of("ENTRYPOINT") == ['["stratos"]'] and "stratos" in PROJECT["project"]["scripts"]
    assert [user.isdigit() and int(user) > 0 for user in of("USER")] == [True]


def test_it_gets_what_the_wheel_is_built_of_and_nothing_else():
    sent = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert all((ROOT / name).exists() for name in sent)
    build = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = [*build["packages"], *build["force-include"], PROJECT["project"]["readme"]]
    needed += [*PROJECT["project"]["license-files"], "pyproject.toml"]
    assert {Path(name).parts[0] for name in needed} == set(sent)
