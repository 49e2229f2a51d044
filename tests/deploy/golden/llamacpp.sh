#!/bin/sh
# Serves larger-tiny on local/here c7i.large.
# It answers several requests at once.
#
#   pip install "torch==1.2.3" --index-url https://download.pytorch.org/whl/cpu
#   pip install "$(ls stratos/*.whl)[llamacpp]" "xllamacpp==1.2.3" -c stratos/pins.txt
#   sh serve.sh                            at http://127.0.0.1:8000/v1
#   HOST=127.0.0.1 PORT=9000 sh serve.sh   elsewhere
#
# The server has no authentication: do not expose it without an authenticating proxy.
set -eu
cd "$(dirname "$0")"/../bundle
export HF_HUB_OFFLINE=1 OMP_WAIT_POLICY=PASSIVE
exec python -m stratos.deploy.engines.llama_server serve . --host "${HOST:-127.0.0.1}" --port "${PORT:-8000}" --format q8_0 --slots 8 --context 8192
