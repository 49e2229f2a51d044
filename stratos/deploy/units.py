"""What has a system keep a student hosted: `stratos serve unit FOLDER --for SYSTEM`."""

from __future__ import annotations

import getpass
import json
import re
import shlex
import sys
from pathlib import Path

from stratos.core.errors import StratosError
from stratos.core.extras import pins, write_wheel
from stratos.deploy.bundle_server import engine_of
from stratos.deploy.engines.base import Engine
from stratos.deploy.engines.http_api import name_of
from stratos.deploy.engines.predictor import PredictorServer
from stratos.deploy.hosted_server import CACHE, Hosted
from stratos.deploy.hosting import KEY, START_SHARE, setting_here
from stratos.deploy.server import HEALTH, READY
from stratos.deploy.service import CPU_TORCH, PINS, WHEELS, pinned, system_installs
from stratos.records import ServingSetting

SYSTEMS = ("systemd", "docker", "kubernetes", "grafana")
PORT = 8000
"""Where a container listens, if nothing else is said."""
_STOP_S = 40
"""What a student has to end: answers that are under way come first."""


def unit(
    system: str, bundle: Path, hosted: Hosted | None, port: int, cache_dir: Path, name: str = ""
) -> str:
    """Return the text for a system, one of `SYSTEMS`.

    Args:
        system: its name.
        bundle: folder of the student.
        hosted: how it is served on this machine; None where it is not.
        port: where a container listens; 0 for `PORT`.
        cache_dir: where it is written down what is served.
        name: of the model in a container; "" for that of `hosted`, or of the bundle.

    Raises:
        StratosError: it cannot be started so.
    """
    if system == "grafana":
        return dashboard()
    if system == "systemd":
        return _systemd(bundle, hosted, cache_dir)
    if hosted is not None and hosted.front:
        raise StratosError(f"{bundle} is served {hosted.front}: only systemd starts it so.")
    run = setting_here(bundle)[0] if hosted is None else hosted.setting
    name = name or (name_of(bundle) if hosted is None else hosted.name)
    if system == "docker":
        return _dockerfile(bundle, name, run, port or PORT)
    return _kubernetes(name, engine_of(run), port or PORT)


def _systemd(bundle: Path, hosted: Hosted | None, cache_dir: Path) -> str:
    """Return the unit that goes on with what was served, also where that was replaced since."""
    if hosted is None:
        raise StratosError(
            f"{bundle} is not served yet, so that it has no address to keep. Type first: stratos "
            f"serve {shlex.quote(str(bundle))} --port <number>"
        )
    command = [sys.executable, "-P", "-m", "stratos", "serve", "start", hosted.name, "--foreground"]
    return f"""\
# /etc/systemd/system/stratos-{_label(hosted.name)}.service: the student at {hosted.url}/v1.
# Once: stratos serve start and this unit exclude each other, so type before its first start
#   {shlex.join(["kill", str(hosted.supervisor.pid if hosted.supervisor else "<supervisor>")])}
[Unit]
Description=Stratos student {_escaped(hosted.name)}
After=network.target

[Service]
ExecStart={" ".join(f'"{_escaped(word)}"' for word in command)}
Environment="{CACHE}={_escaped(str(cache_dir.absolute()))}"
User={getpass.getuser()}
Restart=on-failure
RestartSec=1
KillMode=mixed
TimeoutStopSec={_STOP_S}

[Install]
WantedBy=multi-user.target
"""


def _escaped(text: str) -> str:
    """Return a text as systemd reads it between quotation marks."""
    special = {"\\": "\\\\", '"': '\\"', "%": "%%", "$": "$$"}
    return "".join(special.get(character, character) for character in text)


def _dockerfile(bundle: Path, name: str, run: ServingSetting | None, port: int) -> str:
    """Return the image of a bundle; the wheel of Stratos is written beside it, if need be."""
    folder = bundle.parent / "deploy" / WHEELS
    if not [*folder.glob("*.whl")]:
        folder.mkdir(parents=True, exist_ok=True)
        write_wheel(folder)
        (folder / PINS).write_text("".join(f"{pin}\n" for pin in pins()))
    engine, wheels = engine_of(run), f"deploy/{WHEELS}"
    start_s = START_SHARE * engine.start_s
    index = f"--extra-index-url {CPU_TORCH} " if engine.uses_torch else ""
    extra = f"[{engine.extra}]" if engine.extra else ""
    packages = " ".join(f'"{pinned(package)}"' for package in engine.packages)
    system = f"RUN {' && '.join(system_installs(engine))}\n" if engine.system_packages else ""
    version = ".".join(map(str, sys.version_info[:2]))
    probe = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{port}{READY}')"
    command = container_command(bundle, name, run, port)
    return f"""\
# stratos serve unit {shlex.quote(str(bundle))} --for docker |
#   docker build -t {_label(name)} -f - {shlex.quote(str(bundle.parent))}
# docker run -p {port}:{port} -e {KEY} {_label(name)}
FROM python:{version}-slim
WORKDIR /srv
{system}COPY {wheels} {wheels}
RUN pip install --no-cache-dir {index}"$(ls {wheels}/*.whl){extra}" {packages} -c {wheels}/{PINS}
COPY {json.dumps([bundle.name, "bundle"])}
ENV {CACHE}=/tmp/stratos HF_HUB_OFFLINE=1
USER 65534:65534
EXPOSE {port}
HEALTHCHECK --start-period={start_s:.0f}s CMD {json.dumps(["python", "-c", probe])}
CMD {json.dumps(command)}
"""


def container_command(bundle: Path, name: str, run: ServingSetting | None, port: int) -> list[str]:
    """Return the command of an image, whose folder holds the bundle as `bundle`."""
    command = ["python", "-P", "-m", "stratos", "serve", "bundle", "--foreground"]
    command += ["--host", "0.0.0.0", "--port", str(port), "--name", name]
    if run is None:
        return command
    if not isinstance(engine_of(run), PredictorServer):  # which their bundles choose
        command += ["--engine", run.engine]
    if run.format:
        command += ["--format", run.format]
    return [*command, "--at-once", str(run.slots)]


def _kubernetes(name: str, engine: Engine, port: int) -> str:
    """Return a deployment that loses no request when its image is replaced, and its service."""
    label, start_s = _label(name), START_SHARE * engine.start_s
    return f"""\
# kubectl create secret generic {label} --from-literal=key=sk-$(openssl rand -hex 24)
# stratos serve unit … --for kubernetes | kubectl apply -f -
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {label}
spec:
  replicas: 1
  strategy:
    rollingUpdate: {{maxSurge: 1, maxUnavailable: 0}}
  selector:
    matchLabels: {{app: {label}}}
  template:
    metadata:
      labels: {{app: {label}}}
    spec:
      terminationGracePeriodSeconds: {_STOP_S}
      securityContext: {{runAsNonRoot: true}}
      containers:
        - name: student
          image: {label}:latest
          imagePullPolicy: IfNotPresent
          ports: [{{containerPort: {port}}}]
          env:
            - name: {KEY}
              valueFrom: {{secretKeyRef: {{name: {label}, key: key}}}}
          startupProbe:
            httpGet: {{path: {READY}, port: {port}}}
            periodSeconds: 2
            failureThreshold: {start_s / 2:.0f}
          readinessProbe: {{httpGet: {{path: {READY}, port: {port}}}, periodSeconds: 5}}
          livenessProbe: {{httpGet: {{path: {HEALTH}, port: {port}}}, periodSeconds: 20}}
          lifecycle:
            preStop: {{exec: {{command: [sleep, "5"]}}}}
---
apiVersion: v1
kind: Service
metadata:
  name: {label}
spec:
  selector: {{app: {label}}}
  ports: [{{port: 80, targetPort: {port}}}]
"""


def _label(name: str) -> str:
    """Return a name as files, images and clusters may have it."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-") or "student"


_SECONDS = "http_server_request_duration_seconds"
_ASKED = 'http_route=~"/v1/.*completions"'
"""Looks at a server's health are no requests of clients."""
_FAILED = 'http_response_status_code=~"5..|429|499"'
"""What clients got no answer for; 499 of whoever did not wait for one."""
_PANELS = (
    ("Requests a second",
     f"sum by (http_response_status_code) (rate({_SECONDS}_count{{{_ASKED}}}[5m]))", ""),
    ("Errors", f"sum(rate({_SECONDS}_count{{{_ASKED},{_FAILED}}}[5m])) / "
     f"sum(rate({_SECONDS}_count{{{_ASKED}}}[5m]))", "percentunit"),
    ("Latency, p95",
     f"histogram_quantile(0.95, sum by (le) (rate({_SECONDS}_bucket{{{_ASKED}}}[5m])))", "s"),
    ("Tokens a second", "sum by (gen_ai_token_type) "
     "(rate(gen_ai_client_token_usage_total[5m]))", ""),
    ("Queue", "stratos_queued_requests", ""),
    ("Restarts", "sum by (reason) (increase(stratos_engine_restarts_total[1h]))", ""),
    ("What answers", "stratos_student_info", ""),
    ("Share escalated", "rate(stratos_cascade_escalated_total[1h]) / "
     "rate(stratos_cascade_requests_total[1h])", "percentunit"),
    ("Teacher, today", "stratos_cascade_usd_today", "currencyUSD"),
)  # fmt: skip
"""Title, query and unit of each panel."""


def dashboard() -> str:
    """Return a dashboard of Grafana over what `/metrics` says."""
    panels = [
        {
            "id": number,
            "type": "timeseries",
            "title": title,
            "datasource": {"type": "prometheus", "uid": "${source}"},
            "targets": [{"expr": query, "refId": "A"}],
            "fieldConfig": {"defaults": {"unit": unit_name}, "overrides": []},
            "gridPos": {"h": 8, "w": 8, "x": 8 * (number % 3), "y": 8 * (number // 3)},
        }
        for number, (title, query, unit_name) in enumerate(_PANELS)
    ]
    source = {"name": "source", "type": "datasource", "query": "prometheus"}
    board = {
        "title": "Stratos students", "uid": "stratos", "schemaVersion": 39, "panels": panels,
        "templating": {"list": [source]}, "time": {"from": "now-6h", "to": "now"},
    }  # fmt: skip
    return json.dumps(board, indent=1) + "\n"
