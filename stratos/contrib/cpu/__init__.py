"""Faster training and decoding of small students on a CPU."""

from stratos.core.extensions import Extension

EXTENSION = Extension(
    decoder="stratos.contrib.cpu.cpu_decoder:decoder",
    speedups="stratos.contrib.cpu.cpu_speedups:CpuSpeedups",
)
