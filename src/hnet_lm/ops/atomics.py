"""What loops of several threads need to talk to each other: whole numbers at addresses, read and changed in one go.

All are sequentially consistent: whoever sees a change sees all that was written before it.
"""

import os
import platform
from typing import no_type_check

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

ORDER, BYTES = "seq_cst", 8
PAUSES = {"x86_64": "llvm.x86.sse2.pause", "AMD64": "llvm.x86.sse2.pause"}


@no_type_check  # of Python: numba has types of its own
def _place(builder, address):
    return builder.inttoptr(address, ir.IntType(64).as_pointer())


@intrinsic
@no_type_check
def load(_, address):
    """The number there."""

    def read(context, builder, signature, arguments):
        return builder.load_atomic(_place(builder, arguments[0]), ORDER, BYTES)

    return types.int64(types.int64), read


@intrinsic
@no_type_check
def store(_, address, number):
    """Write it there."""

    def write(context, builder, signature, arguments):
        builder.store_atomic(arguments[1], _place(builder, arguments[0]), ORDER, BYTES)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), write


@intrinsic
@no_type_check
def add(_, address, number):
    """Add to what is there."""

    def plus(context, builder, signature, arguments):
        builder.atomic_rmw("add", _place(builder, arguments[0]), arguments[1], ORDER)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), plus


@intrinsic
@no_type_check
def swap(_, address, old, new):
    """Write the new number if the old one is there; whether it was."""

    def exchange(context, builder, signature, arguments):
        address, old, new = arguments
        result = builder.cmpxchg(_place(builder, address), old, new, ORDER, ORDER)
        return builder.extract_value(result, 1)

    return types.boolean(types.int64, types.int64, types.int64), exchange


@intrinsic
@no_type_check
def pause(_):
    """Tell the processor that this thread waits in a loop."""

    def rest(context, builder, signature, arguments):
        name = PAUSES.get(platform.machine())
        if name is not None:
            builder.call(builder.module.declare_intrinsic(name, (), ir.FunctionType(ir.VoidType(), [])), [])
        return context.get_dummy_value()

    return types.none(), rest


@intrinsic
@no_type_check
def give_way(_):
    """Let another thread run that waits for this processor, if there is one (where the system has `sched_yield`)."""

    def rest(context, builder, signature, arguments):
        if os.name == "posix":
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.none(), rest


@intrinsic
@no_type_check
def call(_, function, arguments, first, last):
    """The function at an address, of these three numbers."""

    def jump(context, builder, signature, arguments):
        number = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [number] * 3)
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64, types.int64), jump
