"""`quantize_embeddings`: embeddings in a quarter or a thirty-second of the memory, as in sentence_transformers.quantization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PRECISIONS", "quantize_embeddings"]

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")

# With fewer embeddings to take ranges from, they depend much on which these are.
_FEW = 100


def quantize_embeddings(embeddings: Any, precision: str, ranges: Any = None, calibration_embeddings: Any = None) -> Any:
    """Embeddings (N, H), or (H,), of floats in another precision.

    "int8", "uint8" (N, H): 256 equal steps between the `ranges` (2, H) of each dimension, its lowest and its highest value;
    what lies outside is moved to the nearer end. Without ranges they are those of `calibration_embeddings` (M, H), or, without
    these either, of the embeddings themselves, with a warning if they are fewer than 100: the numbers of one embedding
    then depend on the others. "binary" (int8), "ubinary" (uint8) (N, ceil(H / 8)): a bit for each number, 1 for > 0, eight to
    a byte, the first one highest; "binary" is that minus 128. "float32": (N, H).

    A list of 2-D arrays (the token vectors of texts) gives a list, with ranges in common.

    Raises InputError (a ValueError) for a precision that is none of these, embeddings that are not of floats, and ranges that would
    be those of a single embedding.
    """
    import numpy as np

    if precision not in PRECISIONS:
        raise InputError(f"precision={precision!r}: one of {', '.join(PRECISIONS)} is needed")
    if isinstance(embeddings, list) and embeddings and np.ndim(embeddings[0]) == 2:
        if precision.endswith("int8") and ranges is None:
            ranges = _ranges(np.concatenate(embeddings), precision, calibration_embeddings)
        return [quantize_embeddings(one, precision, ranges) for one in embeddings]
    vectors = np.asarray(embeddings)
    if not np.issubdtype(vectors.dtype, np.floating):
        raise InputError(f"embeddings of dtype {vectors.dtype}: only floats can be quantized")
    if precision == "float32":
        return vectors.astype(np.float32)
    if precision.endswith("binary"):
        bits = np.packbits(vectors > 0, axis=-1)
        return bits if precision == "ubinary" else (bits ^ 0x80).view(np.int8)
    if not vectors.size:
        return np.zeros(vectors.shape, precision)
    low, high = _checked(_ranges(vectors, precision, calibration_embeddings) if ranges is None else ranges, vectors)
    steps = (high - low) / np.float32(255)
    steps[steps == 0] = 1
    levels = np.clip(np.floor((vectors - low) / steps), 0, 255).astype(np.uint8)
    return levels if precision == "uint8" else (levels ^ 0x80).view(np.int8)


def _ranges(vectors: NDArray[Any], precision: str, calibration: Any) -> NDArray[Any]:
    """(2, H): the lowest and the highest value of each dimension."""
    import numpy as np

    if calibration is None:
        count = 1 if vectors.ndim == 1 else len(vectors)
        if count == 1:
            raise InputError(f"{precision} needs the ranges of values: of one embedding, give ranges= or calibration_embeddings=")
        if count < _FEW:
            import logging

            few = "%s ranges are taken from %d embeddings; ranges= or calibration_embeddings= of more are steadier"
            logging.getLogger(__name__).warning(few, precision, count)
    source = vectors if calibration is None else np.asarray(calibration)
    return np.stack([source.min(axis=0), source.max(axis=0)])


def _checked(ranges: Any, vectors: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    import numpy as np

    bounds = np.asarray(ranges, np.float32)
    if bounds.shape != (2, vectors.shape[-1]):
        raise InputError(f"ranges of the shape {bounds.shape}: (2, {vectors.shape[-1]}) is needed")
    return bounds[0], bounds[1]
