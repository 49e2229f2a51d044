"""What sinfo says of nodes, as shares that jobs take."""

from __future__ import annotations

import pytest

from stratos.contrib.slurm.nodes import Share, constraint_of, gres_of, shares


def names(told: str) -> dict[str, int]:
    return {f"{one.partition}/{one.name}": one.count for one in shares(told)}


def test_a_job_takes_part_of_a_node_and_equal_nodes_count_together() -> None:
    told = "gpu|up|idle|NO|3|32|65536|gpu:h100:4(S:0-1)|ib,fast\ngpu|up|mixed|NO|2|32|65536|"
    found = shares(f"{told}gpu:h100:4(S:0-1)|fast,ib\n")
    assert found == [
        Share("gpu", 8, 16384, "h100", 1, ("fast", "ib"), 20),
        Share("gpu", 16, 32768, "h100", 2, ("fast", "ib"), 10),
        Share("gpu", 32, 65536, "h100", 4, ("fast", "ib"), 5),
    ]
    assert [gres_of(one) for one in found] == ["gpu:h100:1", "gpu:h100:2", "gpu:h100:4"]
    assert constraint_of(found[0]) == "fast&ib"
    assert found[0].name == "1xh100-8cpu-16gib+fast+ib"


def test_a_node_without_gpus_is_shared_by_cpus_and_one_of_its_own_is_whole() -> None:
    assert names("main|up|idle|NO|2|6|6144|(null)|(null)\n") == {
        "main/1cpu-1gib": 12, "main/2cpu-2gib": 6, "main/4cpu-4gib": 2, "main/6cpu-6gib": 2
    }  # fmt: skip
    assert names("main|up|idle|EXCLUSIVE|2|6|6144|gpu:2|(null)\n") == {"main/2xgpu-6cpu-6gib": 2}


@pytest.mark.parametrize(
    ("state", "counts"),
    [("idle", 1), ("idle~", 1), ("allocated#", 1), ("mixed-", 1), ("reserved", 1), ("down*", 0),
     ("drained", 0), ("draining", 0), ("unknown*", 0), ("maint", 0), ("fail", 0), ("inval", 0)],
)  # fmt: skip
def test_nodes_that_run_jobs_now_or_later(state: str, counts: int) -> None:
    assert len(shares(f"main|up|{state}|NO|1|1|1024|(null)|(null)\n")) == counts
    assert shares(f"main|down|{state}|NO|1|1|1024|(null)|(null)\n") == []


def test_gpus_as_clusters_write_them() -> None:
    told = "gpu|up|idle|EXCLUSIVE|1|8|8192|gpu:a100:2(S:0,1),gpu:v100:1,nvme:1,shard:8|(null)\n"
    assert [(one.gpu, one.n_gpus, one.cpus) for one in shares(told)] == [
        ("v100", 1, 8), ("a100", 2, 8)
    ]  # fmt: skip
    [bare] = shares("gpu|up|idle|EXCLUSIVE|1|8|8192|gpu:2(S:0)|(null)\n")
    assert (bare.gpu, bare.n_gpus, gres_of(bare)) == ("", 2, "gpu:2")
    [cpu] = shares("gpu|up|idle|EXCLUSIVE|1|8|8192|gpu:0|(null)\n")
    assert (cpu.n_gpus, gres_of(cpu)) == (0, None)
