"""Atomic int64 operations at addresses and calls through function pointers, as numba intrinsics.

Loads acquire and stores release: a thread that reads a number sees all that was written before that number was.
"""

import os
import platform
from typing import no_type_check

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

INT64 = ir.IntType(64)
NUM_BYTES = 8
SPIN_HINTS = {"x86_64": "llvm.x86.sse2.pause", "AMD64": "llvm.x86.sse2.pause"}


@no_type_check  # of Python: numba has types of its own
def _pointer(builder, address):
    return builder.inttoptr(address, INT64.as_pointer())


@intrinsic
@no_type_check
def load(_, address):
    """The number at an address."""

    def generate(context, builder, signature, arguments):
        return builder.load_atomic(_pointer(builder, arguments[0]), "acquire", NUM_BYTES)

    return types.int64(types.int64), generate


@intrinsic
@no_type_check
def store(_, address, number):
    """Write a number to an address."""

    def generate(context, builder, signature, arguments):
        builder.store_atomic(arguments[1], _pointer(builder, arguments[0]), "release", NUM_BYTES)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), generate


@intrinsic
@no_type_check
def add(_, address, number):
    """Add to the number at an address."""

    def generate(context, builder, signature, arguments):
        builder.atomic_rmw("add", _pointer(builder, arguments[0]), arguments[1], "seq_cst")
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), generate


@intrinsic
@no_type_check
def compare_and_swap(_, address, old, new):
    """Replace the number at an address if it is `old`; whether it was."""

    def generate(context, builder, signature, arguments):
        address, old, new = arguments
        result = builder.cmpxchg(_pointer(builder, address), old, new, "seq_cst", "seq_cst")
        return builder.extract_value(result, 1)

    return types.boolean(types.int64, types.int64, types.int64), generate


@intrinsic
@no_type_check
def spin_hint(_):
    """Tell the processor that this thread waits in a loop."""

    def generate(context, builder, signature, arguments):
        name = SPIN_HINTS.get(platform.machine())
        if name is not None:
            builder.call(builder.module.declare_intrinsic(name, (), ir.FunctionType(ir.VoidType(), [])), [])
        return context.get_dummy_value()

    return types.none(), generate


@intrinsic
@no_type_check
def yield_thread(_):
    """Let another thread that is ready run on this core, where the system has `sched_yield`."""

    def generate(context, builder, signature, arguments):
        if os.name == "posix":
            function_type = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, function_type, "sched_yield"), [])
        return context.get_dummy_value()

    return types.none(), generate


@intrinsic
@no_type_check
def call(_, function, arguments, first, last):
    """Call a function of three int64 by its address."""

    def generate(context, builder, signature, arguments):
        function_type = ir.FunctionType(ir.VoidType(), [INT64] * 3)
        builder.call(builder.inttoptr(arguments[0], function_type.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64, types.int64), generate
