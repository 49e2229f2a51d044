#!/usr/bin/env bash
# A real SkyPilot on one machine, with an AWS that boots (fake_aws.py), in a network namespace that
# nothing leaves. Needs root, and
#   apt-get install --no-install-recommends openssh-server rsync curl sudo iproute2
#   STRATOS_SKY    a virtual environment with skypilot[aws]==0.14.1
#   STRATOS_MOTO   one with moto[server,ec2,iam] and pyyaml (which may be the same)
#   STRATOS_SKY_OPT (/opt/stratos-sky) with what nodes would download; `warm` fills it
# Usage:
#   skypilot.sh make PYTHON310      with a network, once: the environment, in $STRATOS_SKY_OPT/sky, and
#                                   what `warm` does. PYTHON310 is the folder of a Python 3.10.
#   skypilot.sh warm PYTHON310      the latter alone
#   skypilot.sh up DIR              DIR is none of /tmp: nodes have a /tmp of their own
#   skypilot.sh run DIR COMMAND…    in the namespace, with what it takes to reach both
#   skypilot.sh down DIR
set -euo pipefail
what=${1:?make, warm, up, run or down} dir=${2:?a folder}
here=$(cd "$(dirname "$0")" && pwd)
opt=${STRATOS_SKY_OPT:-/opt/stratos-sky} net=stratos-sky
[ "$what" != make ] || STRATOS_SKY=$opt/sky
sky=${STRATOS_SKY:?a virtual environment with skypilot} moto=${STRATOS_MOTO:-$STRATOS_SKY}

inside() {
    exec ip netns exec $net env HOME="$dir/home" PATH="$sky/bin:$PATH" \
        PYTHONPATH="$here/no_network${PYTHONPATH:+:$PYTHONPATH}" PYTHONWARNINGS=ignore NO_COLOR=1 \
        SKYPILOT_DISABLE_USAGE_COLLECTION=1 AWS_ENDPOINT_URL=http://127.0.0.1:5556 \
        AWS_ACCESS_KEY_ID=testing AWS_SECRET_ACCESS_KEY=testing AWS_DEFAULT_REGION=us-east-1 "$@"
}

case $what in
make)
    [ -x "$dir/bin/python3.10" ] || { echo "$dir/bin/python3.10 is not there" >&2 && exit 1; }
    [ -x "$sky/bin/sky" ] || { python3 -m venv "$sky" &&
        "$sky/bin/pip" -q install 'skypilot[aws]==0.14.1'; }
    STRATOS_SKY=$sky exec bash "$0" warm "$dir"
    ;;
warm)
    mkdir -p "$opt/uv-cache" "$opt/home"
    [ -d "$opt/python3.10" ] || cp -r "$2" "$opt/python3.10"
    echo "$opt/python3.10/lib" >/etc/ld.so.conf.d/stratos-sky.conf && ldconfig
    [ -x "$opt/uv" ] || { python3 -m venv "$opt/uv-venv" && "$opt/uv-venv/bin/pip" -q install uv &&
        cp "$opt/uv-venv/bin/uv" "$opt/uv"; }
    export HOME="$opt/home" UV_CACHE_DIR="$opt/uv-cache" UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy
    "$sky/bin/python" -m compileall -q "$sky/lib" # a folder that changes later makes its wheel old
    wheel=$("$sky/bin/python" -c "
from sky.backends import wheel_utils
print(next(wheel_utils.build_sky_wheel()[0].glob('*.whl')))")
    # What SkyPilot installs on a node of AWS.
    "$opt/uv" venv -q --clear --seed --python "$opt/python3.10/bin/python3.10" "$opt/venv"
    for more in "setuptools<70" "ray[default]==2.9.3 pydantic-core==2.41.1 click<8.3.0" \
        "$wheel[aws,remote]"; do
        # shellcheck disable=SC2086
        VIRTUAL_ENV="$opt/venv" "$opt/uv" pip install -q $more
    done
    chmod -R a+rwX "$opt/uv-cache" # uv writes to its cache even to read it
    ;;
up)
    mkdir -p "$dir/home/.sky"
    cp -r "$opt/home/.sky/wheels" "$dir/home/.sky/" # else pip would fetch what builds it
    if ! ip netns list | grep -qw $net; then
        ip netns add $net
        ip -n $net link set lo up
    fi
    (inside "$moto/bin/python" "$here/fake_aws.py" "$dir") </dev/null >"$dir/aws.log" 2>&1 &
    echo $! >"$dir/aws.pid"
    for _ in $(seq 120); do grep -qs '^up' "$dir/aws.log" && break || sleep 0.5; done
    (inside "$sky/bin/python" -c "
import boto3, json
zones = boto3.client('ec2').describe_availability_zones()['AvailabilityZones']
print(json.dumps([one['ZoneId'] for one in zones][:2]))") >"$dir/zones.json"
    python3 "$here/skypilot_catalog.py" "$dir/home" "$dir/zones.json"
    (inside sky api start) </dev/null >"$dir/sky.log" 2>&1
    (inside sky check aws) </dev/null >>"$dir/sky.log" 2>&1
    ;;
run)
    shift 2
    inside "$@"
    ;;
down)
    (inside sky api stop) </dev/null >>"$dir/sky.log" 2>&1 || true
    kill "$(cat "$dir/aws.pid")" 2>/dev/null || true
    sleep 1
    for vm in "$dir"/disk*; do
        umount -l "$vm" 2>/dev/null || true
    done
    ip netns del $net 2>/dev/null || true
    ;;
esac
