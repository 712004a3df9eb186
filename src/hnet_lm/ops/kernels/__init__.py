"""What GPU kernels share: how they are launched, packed sequences cut into blocks, and the recurrence between blocks.

A backend called `triton` is a file of kernels in Triton's language, compiled for the GPU at its first call. Nothing but
those files imports this package, because Triton comes only with torch's CUDA and ROCm builds. Nothing here knows an
op.
"""
