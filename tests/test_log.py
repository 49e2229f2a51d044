"""The log in the run folder tells the run, and no library's chatter."""

import logging
import logging.config

import yaml
from rich.console import Console as RichConsole

from stratos.core.errors import TeacherError
from stratos.core.extensions import conf_dir
from stratos.run.console import Console


def test_the_log_has_stages_decisions_and_warnings_and_no_requests(tmp_path, capsys):
    path = tmp_path / "stratos.log"
    config = yaml.safe_load((conf_dir() / "hydra" / "job_logging" / "stratos.yaml").read_text())
    for name in ("file", "run"):
        config["handlers"][name]["filename"] = str(path)
    before = logging.getLogger().handlers[:]
    try:
        logging.config.dictConfig(config)
        with (tmp_path / "out").open("w") as file:
            console = Console(RichConsole(file=file))
            try:
                with console.closing():
                    with console.stage("probe"):
                        logging.getLogger("httpx").info("HTTP Request: POST … 200 OK")
                        logging.getLogger("httpx").warning("a library warns")
                        console.note("a decision")
                        console.warn("a warning")
                    console.skipped("deploy")
                    raise TeacherError("No teacher can be asked.")
            except TeacherError:
                pass
    finally:
        logging.getLogger().handlers = before
    lines = [line.partition("][")[2] for line in path.read_text().splitlines()]
    assert lines == [
        "INFO] probe begins",
        "httpx][WARNING] - a library warns",
        "INFO] note: a decision",
        "WARNING] a warning",
        "INFO] detail: deploy: switched off",
        "ERROR] TeacherError: No teacher can be asked.",
    ]
    assert capsys.readouterr().err.count("a library warns") == 1, "our own are on the console once"
