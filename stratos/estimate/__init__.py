"""The roofline estimate: throughput, latency, memory and hours of a job on an offer."""
