"""How this folder compiles its inner loops: one decorator over numba, and arrays that grow. The
machine code is kept on disk, so only the first use on a machine pays for the compiler."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])
Array = TypeVar("Array", bound=np.ndarray[Any, Any])


def kernel(function: Function) -> Function:
    """Compiles a function that runs without the GIL; division by zero is not checked."""
    compile_: Any = numba.njit(cache=True, nogil=True, error_model="numpy")
    return cast(Function, compile_(function))


def with_room(values: Array, size: int) -> Array:
    """The array itself if its length is at least `size`, else a longer one that begins with it.

    The length at least doubles, so that growing step by step is linear; the new rest is zero.
    """
    if size <= len(values):
        return values
    larger = np.zeros((max(size, 2 * len(values), 64), *values.shape[1:]), values.dtype)
    larger[: len(values)] = values
    return cast(Array, larger)
