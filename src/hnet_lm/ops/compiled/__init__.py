"""What compiled loops on the CPU are made of: numba for the code, raw memory for the arguments, threads to run them.

A backend called `cpu` is written as plain loops. `jit` compiles them and keeps the machine code on disk, `memory` reads
tensors from within a loop, `threads` runs ranges of independent work side by side, and `exponential` and `bfloat16` are
arithmetic that numba does not have. Nothing here knows any op.
"""
