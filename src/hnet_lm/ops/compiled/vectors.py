"""SIMD vectors as values of a compiled loop, which stay in registers.

The compiler vectorizes most loops by itself. It does not where several sums of vectors are carried from one iteration
to the next, as in a product of matrices: those it writes to memory in every iteration.
"""

from typing import Any, no_type_check

import torch
from llvmlite import ir
from numba import types
from numba.core.datamodel.models import PrimitiveModel
from numba.core.datamodel.registry import register_default
from numba.extending import intrinsic

FUSED = ("contract",)
VECTOR_BYTES = 128 if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else 64
"""Two registers. Four to six vectors, what they meet and what is read fit into 16 of them."""


def num_lanes(dtype: torch.dtype) -> int:
    """Numbers of a vector."""
    return VECTOR_BYTES // dtype.itemsize


class Vector(types.Type):
    """`num_lanes` numbers of one type."""

    def __init__(self, dtype: Any, num_lanes: int):
        self.dtype, self.num_lanes = dtype, num_lanes
        super().__init__(f"vector({num_lanes} x {dtype})")


@register_default(Vector)
class _VectorModel(PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector):
        number = dmm.lookup(fe_type.dtype).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(number, fe_type.num_lanes))


@intrinsic(prefer_literal=True)
@no_type_check  # of Python: numba has types of its own
def load_vector(_, row, num_lanes):
    """The first numbers of a contiguous array of one dimension."""
    vector = Vector(row.dtype, num_lanes.literal_value)

    def generate(context, builder, signature, arguments):
        kind = context.get_value_type(vector)
        return builder.load(_start(context, builder, row, kind, arguments[0]), align=4)

    return vector(row, num_lanes), generate


@intrinsic
@no_type_check
def store_vector(_, vector, row):
    """Write to the first entries of a contiguous array of one dimension."""

    def generate(context, builder, signature, arguments):
        kind = context.get_value_type(vector)
        builder.store(arguments[0], _start(context, builder, row, kind, arguments[1]), align=4)
        return context.get_dummy_value()

    return types.none(vector, row), generate


@intrinsic
@no_type_check
def multiply_add(_, vector, number, row):
    """vector + number * (the first numbers of a contiguous array of one dimension)."""

    def generate(context, builder, signature, arguments):
        kind = context.get_value_type(vector)
        lanes = builder.load(_start(context, builder, row, kind, arguments[2]), align=4)
        product = builder.fmul(_repeated(builder, kind, arguments[1]), lanes, flags=FUSED)
        return builder.fadd(arguments[0], product, flags=FUSED)

    return vector(vector, vector.dtype, row), generate


@intrinsic
@no_type_check
def scaled_add(_, vector, number, other):
    """vector + number * other, of two vectors."""

    def generate(context, builder, signature, arguments):
        kind = context.get_value_type(vector)
        product = builder.fmul(_repeated(builder, kind, arguments[1]), arguments[2], flags=FUSED)
        return builder.fadd(arguments[0], product, flags=FUSED)

    return vector(vector, vector.dtype, other), generate


@intrinsic
@no_type_check
def scaled(_, number, vector):
    """number * vector."""

    def generate(context, builder, signature, arguments):
        kind = context.get_value_type(vector)
        return builder.fmul(_repeated(builder, kind, arguments[0]), arguments[1], flags=FUSED)

    return vector(vector.dtype, vector), generate


@no_type_check
def _repeated(builder, kind, number):
    """The number in every lane."""
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.IntType(32)(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), kind.count), None))


@no_type_check
def _start(context, builder, array_type, kind, array):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(data, kind.as_pointer())
