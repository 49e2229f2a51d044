#!/usr/bin/env bash
# A real Ray cluster on one machine, with nodes that can be lost: nothing outside its folder.
#   ray.sh up DIR [NODES]     a head without CPUs, and nodes n1, n2, ... of 2 CPUs and a GPU each
#   ray.sh lose DIR NODE      kill -9 of all that runs on a node, as when its power fails
#   ray.sh back DIR NODE      the node is there again
#   ray.sh down DIR           ends what `up` started
# Jobs are submitted to http://127.0.0.1:$((RAY_PORT + 1)). The path of DIR has to be short: sockets
# lie in it. PYTHON has ray[default]; RAY_PORT and the five above it are free, and so is 127.0.RAY_NET.
set -euo pipefail
what=${1:?up, lose, back or down} dir=${2:?a folder}
python=${PYTHON:-python3} port=${RAY_PORT:-20380} net=127.0.${RAY_NET:-7}
ray=("$python" -m ray.scripts.scripts start --disable-usage-stats --object-store-memory=80000000
    --min-worker-port=0 --max-worker-port=0)

export RAY_USAGE_STATS_ENABLED=0 RAY_ENABLE_UV_RUN_RUNTIME_ENV=0 RAY_DISABLE_IMPORT_WARNING=1
# A busy machine starts late, and is none the worse for it.
export RAY_raylet_start_wait_time_s=180 RAY_health_check_initial_delay_ms=5000
# A node that is lost is missed after five seconds, and a job that waits is given up after a minute.
export RAY_health_check_period_ms=1000 RAY_health_check_failure_threshold=5
export RAY_JOB_START_TIMEOUT_SECONDS=60
# Started one for each CPU before anybody asks for them, otherwise.
export RAY_prestart_worker_first_driver=0 RAY_enable_worker_prestart=0

# What a node starts keeps its name in the environment: that is how all of it is found.
head() {
    mkdir -p "$dir"
    STRATOS_RAY_NODE="$dir/n0" "${ray[@]}" --head --node-ip-address="$net.1" --port="$port" \
        --dashboard-host=127.0.0.1 --dashboard-port=$((port + 1)) \
        --dashboard-agent-listen-port=$((port + 3)) \
        --ray-client-server-port=$((port + 2)) --num-cpus=0 --num-gpus=0 --temp-dir="$dir" \
        >"$dir/n0.log" 2>&1
}

node() { # by name
    local i=${1#n}
    STRATOS_RAY_NODE="$dir/$1" "${ray[@]}" --address="$net.1:$port" \
        --dashboard-agent-listen-port=$((port + 3 + i)) \
        --node-ip-address="$net.$((i + 1))" --num-cpus=2 --num-gpus=1 --memory=4294967296 \
        --resources='{"accelerator_type:H100": 1}' \
        >"$dir/$1.log" 2>&1
}

until_alive() { # so many nodes besides the head
    "$python" - "http://127.0.0.1:$((port + 1))/api/v0/nodes" "$1" <<'END'
import json, sys, time, urllib.request
address, wanted = sys.argv[1], int(sys.argv[2]) + 1
for _ in range(240):
    try:
        told = json.load(urllib.request.urlopen(address, timeout=30))["data"]["result"]["result"]
        if sum(one["state"] == "ALIVE" for one in told) == wanted:
            sys.exit()
    except OSError:
        pass
    time.sleep(0.5)
sys.exit(f"there are not {wanted} nodes")
END
}

on_node() { # by name; every one without a name
    local one
    for one in /proc/[0-9]*; do
        if tr '\0' '\n' 2>/dev/null <"$one/environ" | grep -q "^STRATOS_RAY_NODE=$dir/${1:-n}"; then
            echo "${one#/proc/}"
        fi
    done
}

case $what in
up)
    head || { tail -n 5 "$dir"/n0.log && exit 1; }
    # One after another: nodes that start together choose the same sockets.
    for i in $(seq 1 "${3:-2}"); do node "n$i" || { tail -n 5 "$dir/n$i.log" && exit 1; }; done
    until_alive "${3:-2}" || { tail -n 5 "$dir"/n*.log && exit 1; }
    ;;
lose)
    # shellcheck disable=SC2046
    kill -9 $(on_node "${3:?a node}") 2>/dev/null || true
    ;;
back)
    node "${3:?a node}"
    until_alive 2
    ;;
down)
    # shellcheck disable=SC2046
    kill -9 $(on_node) 2>/dev/null || true
    ;;
esac
