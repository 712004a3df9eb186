"""One-byte decoding on the CPU in compiled loops: a program of tasks over memory that the stepper owns.

`thread_pool` shares the tasks; `products`, `mamba2`, `attention`, `layers`, `chunking` and `rules` are what they
compute; `program` runs them one after the other; `build` makes a program of a model; `stepper` is the interface.
"""

from hnet_lm.generation.stepper.cpu.stepper import CpuStepper

__all__ = ["CpuStepper"]
