"""What is said when a server answers badly."""

import re

import pytest

from stratos.deploy.load import LoadTest, Served, load_test
from stratos.deploy.server import ServeError, free_port, serving


def test_a_server_without_the_api_ends_in_one_clear_error(tmp_path):
    port = free_port()
    with (
        serving(
            [str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)],
            port=port,
            log_path=tmp_path / "log",
            module="http.server",
            health="/",
        ) as server,
        pytest.raises(ServeError) as caught,
    ):
        load_test(
            server,
            [[{"role": "user", "content": "1 2"}]],
            max_tokens=4,
            concurrency=2,
            tick=lambda done, total: None,
        )
    assert re.match(
        r"The server failed to answer \(.*404.*\)\. The end of .*log:\n",
        str(caught.value),
        re.DOTALL,
    )
    assert "GET /v1/models" in str(caught.value)


def test_latency_is_by_nearest_rank_and_throughput_over_the_whole_time():
    answers = tuple(Served("", 10, seconds / 1000) for seconds in range(1, 21))
    test = LoadTest(answers, seconds=4.0)
    assert test.latency_ms(0.5) == pytest.approx(10)
    assert test.latency_ms(0.95) == pytest.approx(19)
    assert test.tokens_per_s == 50
