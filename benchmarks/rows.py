"""A file of a million rows before the first plan: CPU seconds, peak memory, how often it is opened.

    python benchmarks/rows.py [--rows 1000000] [--kind jsonl] [--out benchmarks/results/rows.json]

The command is `stages=[probe,plan]` of the file with a teacher that a server of this script plays;
it runs in a process of its own, whose CPU time and peak resident memory the kernel counts. The
second command of each pair has ten rows: what is left is what the file costs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

RUN = """
import sys
path, opened = sys.argv.pop(1), []
sys.addaudithook(lambda event, args: opened.append(1) if event == "open" and args[0] == path else 0)
sys.argv[0] = "stratos"
from stratos.__main__ import main
try:
    main()
finally:
    print("opened", len(opened))
"""


@dataclass(frozen=True)
class Cost:
    """What one command took."""

    rows: int
    file_mib: float
    cpu_s: float
    peak_mib: float
    opened: int
    """How many times the command opened the file."""


class Teacher(BaseHTTPRequestHandler):
    """Gives one answer to everything."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer a question."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self._send(
            {
                "model": "m",
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "content": "Answer: 42"},
                    }
                ],
                "usage": {"prompt_tokens": 100, "completion_tokens": 4, "total_tokens": 104},
            }
        )

    def do_GET(self) -> None:
        """List the one model."""
        self._send({"object": "list", "data": [{"id": "m", "object": "model"}]})

    def _send(self, body: dict[str, object]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def write_rows(path: Path, n_rows: int, words: int) -> None:
    """Write sums told in a few words; every question is another."""
    rng = random.Random(0)
    names = [f"word{i}" for i in range(500)]
    with path.open("w") as file:
        for i in range(n_rows):
            told = " ".join(rng.choices(names, k=words))
            row = {"question": f"{told}: what is {i} + {i}?", "answer": str(2 * i)}
            file.write(json.dumps(row) + "\n")


def measure(path: Path, n_rows: int, address: str, folder: Path) -> Cost:
    """Run the command on a file of `n_rows` rows."""
    command = [
        sys.executable, "-c", RUN, str(path), "+task=jsonl", f"task.path={path}",
        "teacher=endpoint", f"teacher.base_url={address}", "teacher.model=m",
        "cloud=aws", "logger=none", "stages=[probe,plan]", "student=stratos_300k",
        "plan.history=false", f"hydra.run.dir={folder}",
        f"paths.cache_dir={folder}/cache",
    ]  # fmt: skip
    with (folder / "output").open("w+b") as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        told = output.read().decode()
    if child.returncode:
        raise SystemExit(told)
    return Cost(
        rows=n_rows,
        file_mib=round(path.stat().st_size / 2**20, 1),
        cpu_s=round(usage.ru_utime + usage.ru_stime, 2),
        peak_mib=round(usage.ru_maxrss / 1024, 1),
        opened=int(told.split()[-1]),
    )


def main() -> None:
    """Measure a short and a long file in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--words", type=int, default=8, help="of a question")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Teacher)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/v1"
    costs = []
    with tempfile.TemporaryDirectory() as name:
        for n_rows in (400, arguments.rows):
            folder = Path(name) / str(n_rows)
            folder.mkdir()
            path = folder / "rows.jsonl"
            write_rows(path, n_rows, arguments.words)
            costs.append(measure(path, n_rows, address, folder))
            print(json.dumps(asdict(costs[-1])), flush=True)
    if arguments.out:
        told = {"machine": platform.processor() or platform.machine(), "words": arguments.words}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(
            json.dumps({**told, "costs": [asdict(cost) for cost in costs]}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
