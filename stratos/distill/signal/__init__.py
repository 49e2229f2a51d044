"""The teacher's signal (logits, top-k, hidden states): one interface, many sources, a cache."""
