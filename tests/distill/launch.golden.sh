#!/usr/bin/env bash
# Trains stratos_1m on 2 servers with 4 processes each, which all see this folder.
#   NODE_RANK=0 MASTER_ADDR=<the first server> bash launch.sh
# Under Slurm, which knows both:
#   srun --nodes=2 --ntasks-per-node=1 bash launch.sh
set -euo pipefail
NODE_RANK="${NODE_RANK:-${SLURM_NODEID:?say which server this is: NODE_RANK=0 for the first}}"
if [ -z "${MASTER_ADDR:-}" ]; then
  MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
fi
exec python -m torch.distributed.run \
  --nnodes=2 \
  --nproc-per-node=4 \
  --node-rank="$NODE_RANK" \
  --master-addr="$MASTER_ADDR" \
  --master-port="${MASTER_PORT:-29500}" \
  -m stratos.distill.worker "/shared/run/distill"
