"""What every statistic asks of its input, said once; a wrong value is named in the error."""

import numpy as np
from numpy.typing import ArrayLike


def finite(name: str, values: ArrayLike) -> np.ndarray:
    """The values as a 1-D array of floats.

    Raises:
        ValueError: not one-dimensional, or a value is NaN or infinite.
    """
    array = _one_dimensional(name, values)
    wrong = array[~np.isfinite(array)]
    if len(wrong):
        raise ValueError(f"{name} {wrong[0]} must be finite")
    return array


def positive(name: str, values: ArrayLike) -> np.ndarray:
    """The values as a 1-D array of floats above 0.

    Raises:
        ValueError: not one-dimensional, or a value is not positive or not finite.
    """
    array = _one_dimensional(name, values)
    wrong = array[~(np.isfinite(array) & (array > 0))]
    if len(wrong):
        raise ValueError(f"{name} {wrong[0]} must be a positive, finite number")
    return array


def _one_dimensional(name: str, values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; it must have one dimension")
    return array


def same_length(**arrays: np.ndarray) -> None:
    """Raises ValueError naming every length when they differ."""
    if len({len(array) for array in arrays.values()}) > 1:
        lengths = ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
        raise ValueError(f"lengths differ: {lengths}; they must be the same")


def in_range(name: str, value: float, low: float, high: float) -> float:
    """The value, if low < value < high.

    Raises:
        ValueError: it is outside, or NaN.
    """
    if not low < value < high:
        raise ValueError(f"{name} {value:g} must lie between {low:g} and {high:g}")
    return value
