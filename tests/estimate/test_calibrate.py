import subprocess
import sys
import time
from dataclasses import replace

from stratos.core.machine import multiplies_bf16
from stratos.estimate.fleet import calibration, machine_name, measure
from stratos.records import to_json


def test_a_measurement_is_quick_and_of_this_machine():
    start = time.process_time()
    found = measure()
    assert time.process_time() - start < 5
    assert found.machine == machine_name()
    assert 1e9 < found.gemm_flops < 1e13
    assert 1e8 < found.bytes_per_s < 1e12
    assert 1e-8 < found.operation_s < 1e-3


def test_it_is_kept_and_measured_again_on_another_machine(tmp_path):
    first = calibration(tmp_path)
    assert calibration(tmp_path) == first
    file = tmp_path / "calibration.json"
    file.write_bytes(to_json(replace(first, machine="another", gemm_flops=1.0)))
    again = calibration(tmp_path)
    assert again.machine == first.machine
    assert again.gemm_flops > 1.0


def test_bf16_is_measured_once_and_where_it_is_asked_for(tmp_path):
    first = calibration(tmp_path)
    assert first.bf16_flops is None
    both = calibration(tmp_path, with_bf16=True)
    assert both == replace(first, bf16_flops=both.bf16_flops)
    assert both.bf16_flops is not None
    assert (both.bf16_flops > 0) == multiplies_bf16()
    assert calibration(tmp_path) == calibration(tmp_path, with_bf16=True) == both


def test_a_broken_file_is_measured_over(tmp_path):
    (tmp_path / "calibration.json").write_text("{")
    assert calibration(tmp_path).machine == machine_name()


def test_no_torch_is_imported():
    code = (
        "import sys; import stratos.estimate; from stratos.estimate.fleet import measure; "
        "measure(); print('torch' in sys.modules, 'pandas' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]
