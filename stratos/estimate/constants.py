"""Every assumption of the estimate, with what it rests on."""

# --- utilisation ---------------------------------------------------------------------------------

MFU_BY_GPU = {"A100": 0.54, "A100-80GB": 0.54, "H100": 0.39}
"""Model FLOP/s over peak in bf16 training: means of llm-foundry's published table
(scripts/train/benchmarking, 54 rows of A100-80GB, 56 of H100-80GB, 125M to 70B parameters)."""

MFU = 0.35
"""The same for a GPU that nobody measured: below both, as an unknown one should not look best."""

PREFILL_MFU = 0.5
"""Prefill reads weights once for many tokens and skips the backward pass; assumption between
training's utilisation and the 0.6–0.7 of a large GEMM."""

BANDWIDTH_UTILISATION = 0.65
"""Bytes read per second of decode over the datasheet's: Llama-3.1-8B in bf16 at batch 8 on an H100
takes 7.4–7.9 ms a token (aiconfigurator's public measurements), its 16 GB at 3.35 TB/s 4.8 ms."""

# --- floors: what a kernel launch and a line of Python cost ---------------------------------------

DECODE_S_PER_LAYER = 0.0007
"""Least seconds of one decoding step per transformer block, whatever the batch. Measured by
`generate` of transformers 5 on Llamas of 3 and 4 blocks on one EPYC core, 0.69–0.88 ms; on a GPU
the same Python issues the same kernels."""

PREFILL_S = 0.010
"""Least seconds until the first token: HTTP, tokenizer, template, one forward pass."""

TRAIN_STEP_S_PER_LAYER = 0.0012
"""Least seconds of one training step per block on an accelerator: about 75 kernels of forward and
backward and 40 of the optimizer at 10 µs each (PyTorch's eager dispatch)."""

TRAIN_STEP_S = 0.004
"""Least seconds of one training step beside its blocks: data, loss, logging, embeddings."""

# --- CPU servers ---------------------------------------------------------------------------------

CPU_TRAIN_GFLOPS_PER_VCPU = 45.0
"""Model FLOP/s per vCPU of training in bf16 autocast: 43.5 to 48.2 measured on Llamas of 0.9M and
2.9M parameters on one EPYC (Zen 5) core, torch 2.9 (its GEMM alone reaches 214)."""

CPU_INFER_GFLOPS_PER_VCPU = 50.0
"""FLOP/s per vCPU of prefill: an fp32 GEMM of 2048 on the same core reaches 53."""

CPU_GB_PER_S_PER_VCPU = 14.0
"""Memory bandwidth that one vCPU draws: an fp32 matrix-vector product on the same core."""

CPU_GB_PER_S_MAX = 200.0
"""Memory bandwidth of a whole server: 8 channels of DDR5-4800 at two thirds of 307 GB/s."""

CPU_SCALING = 0.8
"""n vCPUs work like n**0.8 of one: half of them are hyperthreads, and small matrices do not split.
Assumption; a measurement of the machine replaces it where a card has one."""

# --- many GPUs in one server ---------------------------------------------------------------------

MULTI_GPU_EFFICIENCY = 0.9
"""Share of linear scaling that data parallel training keeps inside one server (llm-foundry's table:
8 GPUs keep 0.9 or more of one node's MFU)."""

# --- memory --------------------------------------------------------------------------------------

RUNTIME_GIB_CPU = 2.0
"""Memory of a CPU server that no model may have: operating system, Python, torch, the HTTP server.
Assumption; a process that has loaded torch and transformers alone is near 1 GiB."""

RUNTIME_GIB_GPU = 1.0
"""The same on a GPU: CUDA context, kernels, library workspaces. Assumption."""

MEMORY_USABLE = 0.9
"""Share of the rest that is left after the allocator's fragments."""

BYTES_PER_PARAM_TRAIN = 16
"""fp32 master weight 4, gradient 4, AdamW's two moments 8 (ZeRO, Rajbhandari et al. 2020,
section 3.1); Muon needs 4 less and is not counted on."""

BYTES_PER_PARAM_INFER = 2
"""bf16 weights."""

BYTES_KV = 2
"""bf16 keys and values."""

ACTIVATION_BYTES_PER_TOKEN_LAYER_HIDDEN = 34
"""Activations of one block without recomputation, per token and unit of width (Korthikanti et al.
2022, equation 1; attention scores excluded, flash attention keeps none)."""

LOGIT_BYTES = 8
"""fp32 logits and their gradient, per token and symbol of the vocabulary."""

# --- start-up ------------------------------------------------------------------------------------

STARTUP_HOURS = 10 / 60
"""Order, boot, image and packages of a rented server; 5 to 15 minutes are usual. Not here."""

DOWNLOAD_BYTES_PER_S = 125e6
"""Weights over 1 Gbit/s."""

# --- work ----------------------------------------------------------------------------------------

TEACHER_BATCH = 32
"""Chats that a teacher answers at once, as `probe.batch_size`."""

P95_OVER_MEAN = 1.5
"""95th percentile of an answer's latency over its mean at one request at a time: answers differ in
length. Assumption; the load test of `deploy` measures it."""

STUDENT_PROMPT_TOKENS = 64
"""Tokens of a question to the student: it is asked without examples."""

ASSUMED_ANSWER_TOKENS = 256
"""Tokens of a student's answer where no recorded run says."""

SPOT_OVERHEAD = 1.15
"""Hours on spot over hours on demand: restarts and the work since the last checkpoint. Assumption
of one interruption in about three hours that costs half a checkpoint interval and a start-up."""
