#!/usr/bin/env bash
# A real SLURM on one machine, with nodes that can be lost. No systemd, nothing outside its folder.
#   slurm.sh up DIR [NODES]     munged, slurmctld and as many slurmd; ends when all nodes are idle
#   slurm.sh control DIR        munged and slurmctld alone, for the nodes of DIR/more.conf
#   slurm.sh lose DIR NODE      kill -9 of all that runs on a node, as when its power fails
#   slurm.sh back DIR NODE      the node is there again
#   slurm.sh down DIR           ends what `up` started, by the process ids that it wrote
# Commands of SLURM find it by SLURM_CONF=DIR/slurm.conf.
# Needs: apt-get install --no-install-recommends slurmctld slurmd slurm-client munge
set -euo pipefail
what=${1:?up, control, lose, back or down} dir=${2:?a folder}
export SLURM_CONF="$dir/slurm.conf"
port=${SLURM_PORT:-17600} host=$(hostname -s) me=$(id -un)

conf() {
    cat <<END
ClusterName=stratos
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$me
SlurmdUser=$me
AuthType=auth/munge
CredType=cred/munge
# How long a requeued job waits, too: 120 s by default.
AuthInfo=socket=$dir/munge.socket,cred_expire=10
StateSaveLocation=$dir/state
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmdSpoolDir=$dir/spool/%n
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1
ReturnToService=2
MpiDefault=none
JobRequeue=1
# A busy machine answers late, and is none the worse for it.
SlurmdTimeout=300
SlurmctldTimeout=300
MessageTimeout=100
BatchStartTimeout=100
InactiveLimit=0
KillWait=60
MinJobAge=600
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
PropagateResourceLimits=NONE
END
    [ "$1" = 0 ] && { cat "$dir/more.conf"; return; }
    for i in $(seq 1 "$1"); do
        echo "NodeName=n$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + i)) CPUs=4" \
            "RealMemory=8000 Gres=gpu:h100:2"
    done
    cat <<END
PartitionName=main Nodes=ALL Default=YES MaxTime=2:00:00 DefaultTime=30 PriorityTier=1 GraceTime=5
PartitionName=urgent Nodes=ALL MaxTime=1:00:00 DefaultTime=10 PriorityTier=10 PreemptMode=OFF
END
}

control() {
    mkdir -p "$dir"/{state,log,spool}
    head -c 128 /dev/urandom >"$dir/munge.key"
    chmod 600 "$dir/munge.key"
    munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" \
        --pid-file="$dir/munge.pid" --log-file="$dir/log/munged.log" --seed-file="$dir/munge.seed"
    conf "$1" >"$SLURM_CONF"
    # GPUs that are counted by SLURM; the devices behind them are never opened.
    printf 'Name=gpu Type=h100 File=/dev/%s\n' null zero >"$dir/gres.conf"
    echo "CgroupPlugin=disabled" >"$dir/cgroup.conf" # which are not everybody's to change
    slurmctld -f "$SLURM_CONF"
}

up() {
    control "$1"
    for i in $(seq 1 "$1"); do
        mkdir -p "$dir/spool/n$i"
        slurmd -f "$SLURM_CONF" -N "n$i"
    done
    for _ in $(seq 240); do
        [ "$(sinfo -h -N -p main -o %T 2>/dev/null | grep -c '^idle$')" = "$1" ] && return
        sleep 0.5
    done
    sinfo -R || true
    tail -n 5 "$dir"/log/*.log
    return 1
}

# Processes of a node: its daemons have its log open, and SLURM names the node to what they start.
on_node() {
    for one in /proc/[0-9]*; do
        if find "$one/fd" -lname "$dir/log/slurmd-$1.log" 2>/dev/null | grep -q .; then
            echo "${one#/proc/}"
        elif tr '\0' '\n' 2>/dev/null <"$one/environ" | grep -qx "SLURM_CONF=$SLURM_CONF" &&
            tr '\0' '\n' 2>/dev/null <"$one/environ" | grep -qx "SLURMD_NODENAME=$1"; then
            echo "${one#/proc/}"
        fi
    done
}

case $what in
up) up "${3:-2}" ;;
control) control 0 ;;
lose)
    # shellcheck disable=SC2046
    kill -9 $(on_node "${3:?a node}") 2>/dev/null || true
    scontrol update "nodename=$3" state=down reason=lost # seen at once, and not after SlurmdTimeout
    ;;
back)
    slurmd -f "$SLURM_CONF" -N "${3:?a node}"
    for _ in $(seq 240); do
        state=$(sinfo -h -n "$3" -p main -o %T)
        [[ $state == idle ]] && exit
        [[ $state == down ]] && scontrol update "nodename=$3" state=resume || true
        sleep 0.25
    done
    exit 1
    ;;
down)
    scancel --user="$me" 2>/dev/null || true
    sleep 1
    for file in "$dir"/slurmd-*.pid "$dir"/slurmctld.pid "$dir"/munge.pid; do
        [ -s "$file" ] && kill "$(cat "$file")" 2>/dev/null || true
    done
    ;;
esac
