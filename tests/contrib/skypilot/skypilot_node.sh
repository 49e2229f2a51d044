#!/usr/bin/env bash
# What a node of fake_aws.py does in place of downloading: Stratos from the wheel that was sent, all
# else from the interpreter of the tests, whose files the node sees.
#   skypilot_node.sh PYTHON
set -euo pipefail
python=${1:?an interpreter}
"$python" -m venv --without-pip "$STRATOS_VENV"
site=$("$STRATOS_VENV/bin/python" -c "import sysconfig; print(sysconfig.get_paths()['purelib'])")
"$python" -m zipfile -e "$STRATOS_SENT"/wheel/*.whl "$site"
"$python" -c "
import sysconfig
print(f'import site; site.addsitedir({sysconfig.get_paths()[\"purelib\"]!r})')" >"$site/tests.pth"
