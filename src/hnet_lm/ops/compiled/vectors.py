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

from hnet_lm.ops.compiled.bfloat16 import LOWER_HALF, NAN, narrowed, widened
from hnet_lm.ops.compiled.jit import inlined
from hnet_lm.ops.compiled.memory import row_slice

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


def _vector_of(dtype):
    """The vector of what a number of this type is computed with."""
    number = types.float32 if dtype == types.uint16 else dtype
    return Vector(number, 8 * VECTOR_BYTES // number.bitwidth)


@intrinsic
@no_type_check  # of Python: numba has types of its own
def lanes_of(_, number):
    """Numbers of a vector of this type; a constant."""
    num = _vector_of(number).num_lanes

    def generate(context, builder, signature, arguments):
        return context.get_constant(types.intp, num)

    return types.intp(number), generate


@intrinsic
@no_type_check
def load_vector(_, row):
    """The first numbers of a contiguous array of one dimension; those of bfloat16 become float32."""
    is_bfloat16, vector = row.dtype == types.uint16, _vector_of(row.dtype)

    def generate(context, builder, signature, arguments):
        kind = context.get_value_type(vector)
        if not is_bfloat16:
            return builder.load(_start(context, builder, row, kind, arguments[0]), align=4)
        halves = builder.load(_start(context, builder, row, _of_integers(16, kind), arguments[0]), align=2)
        words = _of_integers(32, kind)
        return builder.bitcast(builder.shl(builder.zext(halves, words), _constants(words, 16)), kind)

    return vector(row), generate


@intrinsic
@no_type_check
def store_vector(_, vector, row):
    """Write to the first entries of a contiguous array of one dimension; bfloat16 as `narrowed` rounds it."""
    is_bfloat16 = row.dtype == types.uint16

    def generate(context, builder, signature, arguments):
        kind, numbers = context.get_value_type(vector), arguments[0]
        if is_bfloat16:
            words = _of_integers(32, kind)
            bits = builder.bitcast(numbers, words)
            is_odd = builder.and_(builder.lshr(bits, _constants(words, 16)), _constants(words, 1))
            rounded = builder.add(builder.add(bits, _constants(words, int(LOWER_HALF))), is_odd)
            halves = builder.trunc(builder.lshr(rounded, _constants(words, 16)), _of_integers(16, kind))
            is_number = builder.fcmp_ordered("ord", numbers, numbers)
            numbers = builder.select(is_number, halves, _constants(halves.type, int(NAN)))
            kind = halves.type
        builder.store(numbers, _start(context, builder, row, kind, arguments[1]), align=row.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(vector, row), generate


@intrinsic
@no_type_check
def repeated(_, number):
    """The number in every lane."""
    vector = _vector_of(number)

    def generate(context, builder, signature, arguments):
        return _repeated(builder, context.get_value_type(vector), arguments[0])

    return vector(number), generate


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
def product_add(_, vector, one, other):
    """vector + one * other, number by number."""

    def generate(context, builder, signature, arguments):
        return builder.fadd(arguments[0], builder.fmul(*arguments[1:], flags=FUSED), flags=FUSED)

    return vector(vector, one, other), generate


@intrinsic
@no_type_check
def scaled(_, number, vector):
    """number * vector."""

    def generate(context, builder, signature, arguments):
        kind = context.get_value_type(vector)
        return builder.fmul(_repeated(builder, kind, arguments[0]), arguments[1], flags=FUSED)

    return vector(vector.dtype, vector), generate


@no_type_check
@inlined
def read_row(source, row, column, length, factor, to):
    """Numbers of a row of a matrix that was passed as `rows`, times a factor.

    Vectors as values: in a loop over numbers the compiler would have to know that reading and writing never overlap.
    """
    num_lanes = lanes_of(factor)
    whole = length - length % num_lanes
    for j in range(0, whole, num_lanes):
        numbers = load_vector(row_slice(source, row, column + j, num_lanes))
        store_vector(scaled(factor, numbers), to[j : j + num_lanes])
    rest = row_slice(source, row, column, length)
    for j in range(whole, length):
        to[j] = factor * widened(rest[j])


@no_type_check
@inlined
def write_row(numbers, to, row, column, length):
    """The first numbers of an array into a row of a matrix that was passed as `rows`."""
    num_lanes = lanes_of(numbers.dtype.type(0))
    whole = length - length % num_lanes
    for j in range(0, whole, num_lanes):
        vector = load_vector(numbers[j : j + num_lanes])
        store_vector(vector, row_slice(to, row, column + j, num_lanes))
    rest = row_slice(to, row, column, length)
    for j in range(whole, length):
        rest[j] = narrowed(numbers[j], rest)


@no_type_check
def _repeated(builder, kind, number):
    """The number in every lane."""
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.IntType(32)(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), kind.count), None))


@no_type_check
def _start(context, builder, array_type, kind, array):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(data, kind.as_pointer())


def _of_integers(num_bits, kind):
    """The type of as many integers as this type of vector has numbers."""
    return ir.VectorType(ir.IntType(num_bits), kind.count)


def _constants(kind, number):
    return ir.Constant(kind, [number] * kind.count)
