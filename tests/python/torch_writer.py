"""Writes what `torch.save` writes, without torch: the zip format, protocol 2."""

import struct
import zipfile

import numpy as np

_STORAGES = {"<f8": "Double", "<f4": "Float", "<f2": "Half", "<u2": "BFloat16", "<i8": "Long"}  # numpy lacks bfloat16


def write_torch(path, tensors, big_endian=False, compression=zipfile.ZIP_STORED, **entries):
    """Name -> array; arrays over one and the same base share a storage, as views do in torch.

    entries: other contents of entries in the archive, by name; None leaves one out.
    """
    bases, items = [], []
    for name, array in tensors.items():
        base = array if array.base is None else array.base
        if not any(base is known for known in bases):
            bases.append(base)
        number = next(i for i, known in enumerate(bases) if known is base)
        items.append(_text(name) + _tensor(array, base, number))
    pickle = b"\x80\x02ccollections\nOrderedDict\n)R(" + b"".join(items) + b"u."
    content = {"data.pkl": pickle, "byteorder": b"big" if big_endian else b"little"}
    for number, base in enumerate(bases):
        ordered = base.byteswap() if big_endian else base
        content[f"data/{number}"] = ordered.tobytes()
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in (content | entries).items():
            if data is not None:
                archive.writestr(f"archive/{name}", data)


def _tensor(array, base, number):
    offset = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    steps = [stride // array.itemsize for stride in array.strides]
    kind = f"ctorch\n{_STORAGES[array.dtype.str]}Storage\n".encode()
    storage = b"(" + _text("storage") + kind + _text(str(number)) + _text("cpu") + _int(base.size) + b"tQ"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + _int(offset // array.itemsize)
    return rebuild + _ints(array.shape) + _ints(steps) + b"\x89ccollections\nOrderedDict\n)RtR"


def _text(text):
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def _int(number):
    return b"J" + struct.pack("<i", number)


def _ints(numbers):
    return b"(" + b"".join(map(_int, numbers)) + b"t"


def as_bfloat16(array):
    """float32 -> the upper halves of its numbers."""
    return (np.ascontiguousarray(array, "<f4").view("<u4") >> 16).astype("<u2")
