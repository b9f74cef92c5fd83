"""The released models: their checkpoints, names, memory and pipeline (chapters 8 and 11)."""
