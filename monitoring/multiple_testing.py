"""Many tests at once: false discoveries kept rare. No IO here."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def benjamini_hochberg(p_values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Adjusts p-values of shape [..., T] along the last axis; same shape, in [0, 1].

    Rejecting where the result is at most q keeps the false discovery rate at q; where nothing is
    true, that is the chance of any rejection at all. Holds for independent and for positively
    dependent tests. Source: Benjamini and Hochberg (1995); Benjamini and Yekutieli (2001).

    Raises:
        ValueError: a value is NaN or outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.size == 0:
        return p
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values must lie in [0, 1], found {p.min()} to {p.max()}")
    tests = p.shape[-1]
    order = np.argsort(p, axis=-1)
    scaled = np.take_along_axis(p, order, axis=-1) * tests / np.arange(1, tests + 1)
    stepped = np.minimum.accumulate(scaled[..., ::-1], axis=-1)[..., ::-1]
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(stepped, 1.0), axis=-1)
    return adjusted
