"""What has to be there fails a test that lacks it, and continuous integration asks for it."""

from pathlib import Path

import pytest
from required import VARIABLE, lacking


def test_what_is_lacking_skips_unless_it_is_required(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs Chromium"):
        lacking("browser", "needs Chromium")
    monkeypatch.setenv(VARIABLE, "gpu,browser")
    with pytest.raises(pytest.fail.Exception, match="needs Chromium"):
        lacking("browser", "needs Chromium")
    with pytest.raises(pytest.skip.Exception):
        lacking("hub", "needs the hub")


def test_continuous_integration_requires_what_it_installs():
    script = (Path(__file__).parents[1] / ".ci" / "run").read_text()
    assert f"export {VARIABLE}=browser,s3,ray\n" in script
    assert "slurmctld slurmd slurm-client munge" in script
    assert f"{VARIABLE}+=,slurm\n" in script
