"""Faster training and decoding of small students on a CPU."""

from stratos.core.extensions import Extension

EXTENSION = Extension(
    decoder="stratos.contrib.cpu.cpu_decoder:decoder",
    slots="stratos.contrib.cpu.slots:slots",
    speedups="stratos.contrib.cpu.cpu_speedups:CpuSpeedups",
)
