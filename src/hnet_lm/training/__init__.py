"""Training: a run configuration goes in, checkpoints and metrics come out. `loop.py` is the place to start reading."""
