"""Numbers side by side as one value of a compiled loop, which then stays in registers.

The compiler makes vectors of most loops by itself. It does not where sums of several vectors are carried from one turn
of a loop to the next, as in a product of matrices: those it writes to memory in every turn.
"""

from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.core.datamodel.models import PrimitiveModel
from numba.core.datamodel.registry import register_default
from numba.extending import intrinsic

FUSED = ("contract",)


class Vector(types.Type):
    """The type of so many numbers of one type."""

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
def zeros(_, one, num_lanes):
    """Of the type of `one`."""
    vector = Vector(one, num_lanes.literal_value)

    def zero(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(vector), None)

    return vector(one, num_lanes), zero


@intrinsic
@no_type_check
def plus_product(_, sums, number, row):
    """sums + number * (the first numbers of an array's only dimension)."""

    def add(context, builder, signature, arguments):
        kind = context.get_value_type(sums)
        lanes = builder.load(_start(context, builder, row, kind, arguments[2]), align=4)
        splat = ir.Constant(kind, ir.Undefined)
        splat = builder.insert_element(splat, arguments[1], ir.IntType(32)(0))
        splat = builder.shuffle_vector(splat, splat, ir.Constant(ir.VectorType(ir.IntType(32), kind.count), None))
        return builder.fadd(arguments[0], builder.fmul(splat, lanes, flags=FUSED), flags=FUSED)

    return sums(sums, sums.dtype, row), add


@intrinsic
@no_type_check
def write(_, sums, row):
    """To the first places of an array's only dimension."""

    def store(context, builder, signature, arguments):
        kind = context.get_value_type(sums)
        builder.store(arguments[0], _start(context, builder, row, kind, arguments[1]), align=4)
        return context.get_dummy_value()

    return types.none(sums, row), store


@no_type_check
def _start(context, builder, array_type, kind, array):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(data, kind.as_pointer())
