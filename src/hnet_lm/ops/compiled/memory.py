"""Tensors as compiled loops read them: arrays at addresses, strided rows, and scratch memory on the loop's own stack.

An address is only as good as the memory behind it: whoever passes one has checked type, shape and stride, and keeps the
tensor alive until the loop has ended.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, no_type_check

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from hnet_lm.ops.compiled.jit import expanded, inlined

CACHE_LINE = 64
"""Bytes; also those of the widest vectors."""

MAX_WIDTH = 8192
"""Numbers per row for which loops have room on their stack."""

ONE: Mapping[torch.dtype, Any] = MappingProxyType(
    {
        torch.float32: np.float32(1),
        torch.float64: np.float64(1),
        torch.bfloat16: np.uint16(1),  # which numba does not know: see `bfloat16`
        torch.int8: np.int8(1),
        torch.int64: np.int64(1),
    }
)
"""A number of each type. Loops take one beside an address to know the type of what is there."""


@intrinsic
def _pointer(_: Any, address: Any, offset: Any, one: Any) -> Any:
    def cast(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))
        return builder.gep(start, [arguments[1]])

    return types.CPointer(one)(types.intp, types.intp, one), cast


@no_type_check  # of Python: numba has types of its own
@inlined
def array_at(address: int, one: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """The contiguous array at an address, within a loop.

    `Tensor.data_ptr` takes 0.1 us, a numpy array of a tensor 3 us. And FSDP frees the memory of a weight, which it
    cannot while an array refers to it.
    """
    return numba.carray(_pointer(address, 0, one), shape)


@intrinsic(prefer_literal=True)
def _on_stack(_: Any, one: Any, num_rows: Any, num_lanes: Any) -> Any:
    def reserve(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.get_value_type(one)
        with builder.goto_entry_block():
            memory = builder.alloca(ir.ArrayType(number, num_rows.literal_value * num_lanes.literal_value))
        memory.align = CACHE_LINE
        return builder.bitcast(memory, number.as_pointer())

    return types.CPointer(one)(one, num_rows, num_lanes), reserve


@no_type_check
@expanded
def scratch(one: Any, num_rows: int, num_lanes: int) -> NDArray[Any]:
    """An uninitialised array of the type of `one` on the loop's own stack; both sizes are compile-time constants.

    The compiler knows that nothing else aliases it, so it keeps in registers what fits. Rows are aligned to vectors. A
    loop over `np.empty` took two to four times as long.
    """
    return numba.carray(_on_stack(one, num_rows, num_lanes), (num_rows, num_lanes))


@no_type_check
@inlined
def address_of(array: NDArray[Any]) -> int:
    """The address of an argument of a loop. An array made in the loop itself may be freed after this, its last use."""
    return np.int64(array.ctypes.data)


@intrinsic
def _prefetch_line(_: Any, address: Any) -> Any:
    def ask(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        to_read, keep_long, data = number(0), number(3), number(1)
        builder.call(function, [builder.inttoptr(arguments[0], byte), to_read, keep_long, data])
        return context.get_dummy_value()

    return types.none(types.intp), ask


@no_type_check
@inlined
def prefetch(address: int, num_bytes: int) -> None:
    """Load memory into the cache that is needed soon, while something else is computed."""
    for start in range(address, address + num_bytes, CACHE_LINE):
        _prefetch_line(start)


@no_type_check
@inlined
def fill(matrix: NDArray[Any], number: Any) -> None:
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            matrix[i, j] = number


def with_unit_stride(x: Tensor) -> Tensor:
    """A matrix of a type that loops read, each row contiguous: itself, or a copy."""
    if x.dtype not in ONE:
        x = x.float()
    return x if x.stride(-1) == 1 else x.contiguous()


def rows(x: Tensor) -> tuple[Any, int, int]:
    """A matrix for `row_slice`: its rows are contiguous but may be slices of wider ones."""
    return ONE[x.dtype], x.data_ptr(), x.stride(0)


@no_type_check
@inlined
def row_slice(rows: tuple[Any, int, int], row: int, column: int, length: int) -> NDArray[Any]:
    """Some consecutive numbers of one row of a matrix that was passed as `rows`.

    The compiler cannot rule out that an index such as `column + j` in `x[t, column + j]` is negative and counts from
    the end, so it would read one number at a time.
    """
    one, address, stride = rows
    return numba.carray(_pointer(address, row * stride + column, one), (length,))


def array(x: Tensor) -> NDArray[Any]:
    """The memory of a tensor as a contiguous array (a copy where it is not contiguous)."""
    return x.detach().contiguous().numpy()
