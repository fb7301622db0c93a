"""Which tensor of a checkpoint fills which slot of a model, and the report of what did not fit.

Checkpoints call the same tensor by several names: with or without the prefix of the model inside a head
("bert.encoder…"), and with the old spelling LayerNorm.gamma / .beta.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .errors import CorruptModelError, WeightMismatchError

if TYPE_CHECKING:
    from ._native import Checkpoint

# slot -> (name in a checkpoint, the configuration keys that the weight's shape comes from); `{i}` is the layer
TensorTable = dict[str, tuple[str, tuple[str, ...]]]
Shape = tuple[int, ...]

_FLOATS = {"F64", "F32", "F16", "BF16"}
# saved by old versions; no parameters
_BUFFERS = re.compile(r"(^|\.)(position_ids|token_type_ids|(attn|attention)\.(masked_)?bias|rotary_emb\.inv_freq)$")
_LAYER = re.compile(r"\.(\d+)(?=\.)")
_SHOWN = 20


class TensorMatch:
    """The outcome of a load: names are those of the model's own checkpoint format."""

    def __init__(self) -> None:
        self.filled: dict[str, str] = {}  # slot -> name in this checkpoint
        self.missing: list[str] = []
        self.unexpected: list[str] = []
        self.mismatched: list[tuple[str, Shape, Shape]] = []  # (name, in the checkpoint, in the model)

    def loading_info(self) -> dict[str, Any]:
        """What `from_pretrained(output_loading_info=True)` returns beside the model."""
        return {
            "missing_keys": set(self.missing),
            "unexpected_keys": set(self.unexpected),
            "mismatched_keys": set(self.mismatched),
            "error_msgs": [],
        }


def checkpoint_name(slot: str, table: TensorTable) -> str:
    """The slot's name in a checkpoint: "layers.3.feed_forward.up.bias" -> "encoder.layer.3.intermediate.dense.bias".

    A table may name a slot as a whole, where its weight and its bias go by different names.
    """
    if slot in table:
        return table[slot][0]
    layer, of_any_layer = _LAYER.search(slot), _LAYER.sub(".{i}", slot)
    stem, _, kind = of_any_layer.rpartition(".")
    name = table[of_any_layer][0] if of_any_layer in table else f"{table[stem][0]}.{kind}"
    return name.format(i=layer[1]) if layer else name


def match_tensors(
    slots: Iterable[tuple[str, Shape]],
    table: TensorTable,
    checkpoint: Checkpoint,
    prefixes: tuple[str, ...],
    ignore_mismatched_sizes: bool,
    config: Any,
    optional: tuple[str, ...],
    saved: dict[str, str],
    ignored: tuple[str, ...] = (),
    in_files: Mapping[str, str] = MappingProxyType({}),
    stand_ins: Mapping[str, str] = MappingProxyType({}),
    fixed: tuple[str, ...] = (),
) -> TensorMatch:
    """Find each slot's tensor; `saved` has the slots' names as the model writes them, `in_files` other names of some in files; names
    that begin with one of `ignored` may be there; slots that are `fixed` may be missing and are what they always are.
    WeightMismatchError if one has another shape, is not of floats, or is missing and does not belong to the `optional` parts of
    the model."""
    stored = _stored_names(checkpoint.names(), prefixes, {other: name for name, other in in_files.items()})
    match = TensorMatch()
    needed = []
    for slot, shape in slots:
        name = checkpoint_name(slot, table)
        if name not in stored and slot in stand_ins:
            name = checkpoint_name(stand_ins[slot], table)
        source = stored.pop(name, None)
        if source is None and slot in fixed:
            continue
        if source is None:
            match.missing.append(saved[slot])
            needed += [saved[slot]] if not slot.startswith(optional) else []
        elif (found := tuple(checkpoint.shape(source))) != shape:
            match.mismatched.append((name, found, shape))
        else:
            _check_floats(source, checkpoint.dtype(source))
            match.filled[slot] = source
    match.unexpected = [source for name, source in stored.items() if not name.startswith(ignored) and not _is_left_out(name, table)]
    if not match.filled and not match.mismatched:
        raise _nothing_matched(match)
    if needed:
        raise _incomplete(needed)
    if match.mismatched and not ignore_mismatched_sizes:
        raise _mismatch(match.mismatched, table, config)
    return match


def report(match: TensorMatch, model: str, source: object) -> str | None:
    """The load report, in the layout of transformers; None if everything fitted."""
    rows = [(name, "UNEXPECTED") for name in match.unexpected]
    rows += [(name, "MISSING") for name in match.missing]
    rows += [(name, f"MISMATCH: checkpoint {found}, model {wanted}") for name, found, wanted in match.mismatched]
    if not rows:
        return None
    width = max(len(name) for name, _ in rows)
    lines = [f"{model} LOAD REPORT from: {source}", f"{'Key':{width}} | Status", f"{'-' * width}-+-----------"]
    lines += [f"{name:{width}} | {status}" for name, status in rows]
    if match.unexpected:
        lines.append("UNEXPECTED: not used; usual if the checkpoint is of another task, e.g. has a head.")
    if match.missing or match.mismatched:
        lines.append("MISSING, MISMATCH: newly initialized; train the model before you use what depends on them.")
    return "\n".join(lines)


def _stored_names(names: Iterable[str], prefixes: tuple[str, ...], renamed: Mapping[str, str]) -> dict[str, str]:
    """Names in the model's own spelling -> names in the checkpoint."""
    stored: dict[str, str] = {}
    for name in names:
        own = renamed.get(name, name)
        own = own.removeprefix(next((f"{prefix}." for prefix in prefixes if own.startswith(f"{prefix}.")), ""))
        own = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", own)
        own = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", own)
        if own in stored:
            raise CorruptModelError(f"the checkpoint holds one tensor under two names: {stored[own]!r} and {name!r}")
        stored[own] = name
    return stored


def _is_left_out(name: str, table: TensorTable) -> bool:
    """A buffer, or a part that the model was asked to do without (its pooler); not a layer that it lacks."""
    known = {known for known, _ in table.values()}
    return bool(_BUFFERS.search(name)) or name in known or name.rpartition(".")[0] in known


def _check_floats(name: str, dtype: str) -> None:
    if dtype not in _FLOATS:
        raise WeightMismatchError(f"{name} is stored as {dtype}; expected one of {', '.join(sorted(_FLOATS))}")


def _nothing_matched(match: TensorMatch) -> WeightMismatchError:
    return WeightMismatchError(
        f"0 of {len(match.missing)} tensors of the model are in the checkpoint, which has other names: "
        f"it holds {_sample(match.unexpected)}; the model needs {_sample(match.missing)}"
    )


def _incomplete(needed: list[str]) -> WeightMismatchError:
    more = f" and {len(needed) - _SHOWN} more" if len(needed) > _SHOWN else ""
    return WeightMismatchError(f"the checkpoint lacks tensors of the model: {', '.join(needed[:_SHOWN])}{more}")


def _sample(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "") if names else "nothing"


def _mismatch(mismatched: list[tuple[str, Shape, Shape]], table: TensorTable, config: Any) -> WeightMismatchError:
    keys = dict(table.values())
    lines = [_mismatch_line(keys, config, *entry) for entry in mismatched[:_SHOWN]]
    if len(mismatched) > _SHOWN:
        lines.append(f"and {len(mismatched) - _SHOWN} more")
    lines.append("ignore_mismatched_sizes=True loads the others and initializes these newly")
    return WeightMismatchError("the checkpoint's shapes do not fit the config:\n  " + "\n  ".join(lines))


def _mismatch_line(
    keys: dict[str, tuple[str, ...]], config: Any, name: str, found: Shape, wanted: Shape
) -> str:
    line = f"{name}: {found} in the checkpoint, {wanted} in the model"
    if len(found) > 1 and found == wanted[::-1]:
        return line + " (looks transposed)"
    # a bias has the length of its weight's first axis
    axes = keys.get(_LAYER.sub(".{i}", name).rpartition(".")[0], ())[: len(wanted)]
    if len(found) != len(wanted):
        return line
    hints = {
        key: f"config says {key}={getattr(config, key)}, the checkpoint {size}"
        for key, size, expected in zip(axes, found, wanted)
        if size != expected
    }
    return f"{line} ({'; '.join(hints.values())})"
