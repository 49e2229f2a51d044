"""Every assumption of the estimate, with its source."""

# --- GPUs ---------------------------------------------------------------------------------

MATMUL_SHARE = {
    "A100": 0.869,
    "A100-80GB": 0.869,
    "H100": 0.803,
    "H200": 0.803,
    "GH200": 0.838,
    "B200": 0.776,
    "B300": 0.786,
    "GB200": 0.776,
    "GB300": 0.786,
    "MI300X": 0.514,
    "MI325X": 0.514,
}
"""FLOP/s of the best large bf16 product over the datasheet's peak, which power and clocks keep out
of reach: 271 of 312 on an A100, 794 of 989 on an H100, 1,745 of 2,250 on a B200 (Bekman, ML
Engineering Open Book, "Maximum Achievable Matmul FLOPS comparison table"). GB200, GB300 and MI325X
have the chips of B200, B300 and MI300X."""

MATMUL_SHARE_UNKNOWN = 0.8
"""The same for a GPU that is not in that table."""

MATMUL_SHARE_FP8 = {
    "H100": 0.709,
    "H200": 0.734,
    "GH200": 0.776,
    "B200": 0.763,
    "B300": 0.745,
    "GB200": 0.763,
    "GB300": 0.745,
}
"""The same in fp8."""

FP4_GPUS = ("B200", "B300", "GB200", "GB300", "RTX-PRO-4500", "RTXPRO6000", "RTX5070", "RTX5090")
"""GPUs whose matrix units run fp4 at twice the rate of fp8 (Blackwell)."""

ATTENTION_SHARE = {
    "H100": 0.35,
    "H20": 0.35,
    "H200": 0.35,
    "GH200": 0.35,
    "B200": 0.30,
    "B300": 0.30,
    "GB200": 0.30,
    "GB300": 0.30,
}
"""FLOP/s of flash attention 2 over the datasheet's peak: at most 0.35 on Hopper, whose
asynchronous matrix units it does not use (Shah et al. 2024, abstract); as little on Blackwell
where kernels are no newer. Assumption for Blackwell."""

ATTENTION_SHARE_UNKNOWN = 0.62
"""The same on GPUs up to Ampere: 0.5 to 0.73 (Dao 2023, abstract)."""

LINK_GB_PER_S = {
    "V100": 150.0,
    "V100-32GB": 150.0,
    "A100": 300.0,
    "A100-80GB": 300.0,
    "A100-80GB-PCIE": 25.0,
    "H100": 450.0,
    "H100-NVL": 300.0,
    "H20": 450.0,
    "H200": 450.0,
    "GH200": 450.0,
    "B200": 900.0,
    "B300": 900.0,
    "GB200": 900.0,
    "GB300": 900.0,
    "MI300X": 448.0,
    "MI325X": 448.0,
    "MI355X": 538.0,
}
"""NVLink or Infinity Fabric of one GPU, one direction (datasheets quote both together). An A100 for
PCIe has none where it is let without bridges."""

LINK_GB_PER_S_PCIE = 25.0
"""The same over PCIe 4.0 x16: 32 GB/s less its protocol."""

NODE_GB_PER_S = {"A100": 200.0, "A100-80GB": 200.0, "H100": 400.0, "H200": 400.0, "B200": 400.0}
"""Network of a server of eight: 1,600 Gbit/s (A100) or 3,200 Gbit/s. A collective runs through all
its adapters at once, so each GPU's share of the data crosses at the server's rate."""

NODE_GB_PER_S_ETHERNET = 1.25
"""The same where nothing says that there is more: 10 Gbit/s."""

# --- floors: what a kernel launch and a line of Python cost ---------------------------------------

DECODE_S_PER_LAYER = 0.0007
"""Seconds that the host of a GPU takes to issue one transformer block from Python, whatever the
batch: the unit of `engines`. Measured on Llamas of 3 and 4 blocks on one EPYC core, 0.69 to
0.88 ms; assumed for a GPU's host."""

CPU_DECODE_S_PER_LAYER = 0.00028
"""The same on a CPU, where the block is computed too: with one more for the step itself, 1.4 ms a
token of the embedded students of 4 blocks; their recorded latencies have 1.1 to 1.9 ms."""

TRAIN_STEP_S_PER_LAYER = 0.0012
"""Least seconds of one training step per block on an accelerator: about 75 kernels of forward and
backward and 40 of the optimizer at 10 µs each (PyTorch's eager dispatch)."""

TRAIN_STEP_S = 0.004
"""Least seconds of one training step beside its blocks: data, loss, logging, embeddings."""

# --- CPU servers ---------------------------------------------------------------------------------

CPU_TRAIN_GFLOPS_PER_VCPU = 45.0
"""Model FLOP/s per vCPU of training in bf16 autocast: 34 to 74 in the recorded runs of the embedded
students on one EPYC (Zen 5) core, torch 2.9 (its bf16 product alone reaches 214 to 428)."""

CPU_STEP_S = 0.025
"""CPU seconds of a training step that its tokens do not take: PyTorch's dispatch of the passes, and
the least of the optimizer. Trials of the embedded students with steps of 416 and 4,023 tokens on
one EPYC core had 13 to 23 ms a pass; threads share none of it."""

CPU_STEP_S_PER_PARAM = {"muon": 1.65e-8, "adamw": 2e-9}
"""CPU seconds of an update for each parameter that is trained. Muon: 10, 18 and 54 ms of 0.3M, 0.9M
and 3.0M parameters in the same trials. AdamW reads and writes 28 bytes: assumption."""

CPU_RECORDED_BATCH_TOKENS = 4096
"""Tokens of a step of the runs on students' cards."""

CPU_INFER_GFLOPS_PER_VCPU = 50.0
"""FLOP/s per vCPU of prefill: an fp32 GEMM of 2048 on the same core reaches 53."""

CPU_GB_PER_S_PER_VCPU = 14.0
"""Memory bandwidth that one vCPU draws: an fp32 matrix-vector product on the same core."""

CPU_GB_PER_S_MAX = 200.0
"""Memory bandwidth of a whole server: 8 channels of DDR5-4800 at two thirds of 307 GB/s."""

CPU_TRAIN_OVER_GEMM = 0.85
"""Training's model FLOP/s over those of an fp32 product on the same cores: 45 to 53."""

CPU_TRAIN_OPERATIONS = 9_000
"""What a training in bfloat16 takes for a token in each layer, for each element of its width,
beside its products, in operations at the rate of a training in fp32: 0.1 microseconds at 92
GFLOP/s. Students of 0.3M to 10M parameters took 0.17 to 0.24 (`benchmarks/training/sft.py`),
SmolLM2-135M 0.05."""

CPU_INFER_OVER_GEMM = 0.94
"""The same of prefill: 50 to 53."""

CPU_RECORDED_VCPUS = 2.0
"""Cores of the machine that the runs on students' cards were measured on."""

CPU_RECORDED_ERROR = 1.35
"""Factor that hours from recorded runs may be off by: the same training took 1,179 and 1,362
seconds of CPU in two runs on one machine, and another machine's core differs by more."""

CPU_CALIBRATED_ERROR = 1.5
"""The same of the roofline of this machine, measured: recorded runs of the embedded students took
0.67 to 1.34 of it."""

CPU_ERROR = 2.5
"""The same of an assumed CPU: generations of cores differ by as much."""

DECODE_OPERATIONS_PER_LAYER = 150
"""The floor of a block on a CPU over one small numpy operation, of servers on a quiet EPYC core:
0.18 ms to 1.2 microseconds (`benchmarks/serving/estimate.py`)."""

COMPILED_OPERATIONS_PER_LAYER = 235
"""The same, of the blocks that the host of llama.cpp is counted in."""

EAGER_ERROR = 1.5
"""Factor that a time may be off by where the floor of launches decides: Python and host differ."""

UNLIKE_ERROR = (0.6, 1.8)
"""Measured seconds over predicted ones on a GPU that is unlike all that were fitted to (no HBM and
NVLink of NVIDIA's): the share of its peak that software reaches is unknown. Assumption."""

CPU_SCALING = 0.8
"""n vCPUs work like n**0.8 of one: half of them are hyperthreads, and small matrices do not split.
Assumption; a measurement of the machine replaces it where a card has one."""

CPU_CACHE_BYTES = 16e6
"""Weights that a CPU's cache holds from one step to the next; the rest is read from memory."""

ONE_THREAD_BYTES = 300_000_000
"""Weights of a bundle up to which one CPU thread serves: two were 1% slower at 123M parameters and
23% at 0.9M (`benchmarks/serving/cpu.py`), and no larger model was tried. Threads wait for each
other at each of some hundred operations a token."""

FLOAT_BYTES = 4.0
"""Of a number in float32."""

BYTES_PER_PARAM_BUNDLE = 4
"""fp32: a bundle of a student that was trained here."""

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

BYTES_PER_PARAM_QLORA = 0.516
"""4-bit NormalFloat with its doubly quantised scales, 4.127 bits (Dettmers et al. 2023, section 3);
embeddings stay in bf16."""

LORA_RANK = 16
"""Rank of the adapters, on every linear map of the blocks."""

LORA_FLOPS = 2 / 3
"""FLOPs of LoRA over those of full training: no gradient of the frozen weights."""

QLORA_SLOWDOWN = 1.3
"""Seconds of QLoRA over LoRA's: each product unpacks its weights first. Assumption."""

BYTES_PER_PARAM_INFER = 2
"""bf16 weights."""

BYTES_KV = 2
"""bf16 keys and values."""

LOGIT_BYTES = 8
"""fp32 logits and their gradient, per token and symbol of the vocabulary."""

CUT_FIXED_TOKENS, CUT_TOKENS_A_WORD = 300.0, 1.5
"""Tokens that a vocabulary cut to a task has beside those of its words (bytes, digits, special
tokens), and for each word, with those that lead to them. Fitted to SmolLM2's tokens of rows of
Banking77, GSM8K and invoices; of codes and names there are fewer."""

CUT_UNUSED_SHARE = 0.025
"""Share of a vocabulary that stays beside them: tokens that were added to it. Gemma 3 has 6,242
unused ones, 2.4%; SmolLM2 has next to none."""

# --- start-up ------------------------------------------------------------------------------------

STARTUP_HOURS = 10 / 60
"""Order, boot, image and packages of a rented server; 5 to 15 minutes are usual. Not here."""

STARTUP_HOURS_LOW, STARTUP_HOURS_HIGH = 5 / 60, 15 / 60
"""The range of that."""

TRAIN_FIXED_S, TRAIN_FIXED_S_LOW, TRAIN_FIXED_S_HIGH = 10.0, 1.0, 60.0
"""Seconds of a training on a machine that is here already beside its tokens: tokenizing, measuring
the pace, validations, writing. In 7 runs of 6,000 to 400,000 tokens of the 0.3M student on 2 shared
cores these took 1 to 20 seconds of CPU, and the shortest runs 3 to 46 seconds on the clock."""

DOWNLOAD_BYTES_PER_S = 125e6
"""Weights over 1 Gbit/s."""

DOWNLOAD_SPREAD = 3.0
"""A download may take a third of that or three times as long. Assumption."""

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
