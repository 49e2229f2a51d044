"""Local models: pretrained folders, batched decoding, and where students start from."""
