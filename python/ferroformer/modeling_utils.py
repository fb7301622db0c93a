"""`PreTrainedModel`: what all models share. Loading, saving, and the call down to the compiled core.

An architecture's own file (models/bert.py) says what it is made of: a blueprint, and a table of its tensors' names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from .config_values import dtype_name
from .configuration_utils import PreTrainedConfig, check_no_code
from .errors import CorruptModelError, InputError, WeightMismatchError
from .hub import HUB_ARGUMENTS
from .losses import Loss, LossOptions
from .model_inputs import INPUT_NAMES, encoder_inputs, integer_array
from .tensor_match import TensorMatch, TensorTable, checkpoint_name, match_tensors, report
from .token_embeddings import TokenEmbeddings
from .weight_files import PACKED_NAME, WEIGHTS_NAME, find_packed, has_checkpoint, open_checkpoint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ._native import Checkpoint, Encoder, Recording

__all__ = ["PreTrainedModel"]

Self = TypeVar("Self", bound="PreTrainedModel")

_DEVICES = (None, "cpu", "auto")
_ATTENTIONS = (None, "eager", "sdpa")
_DTYPES = ("float32", "bfloat16", "int8")


class Weights(NamedTuple):
    """A packed file, or an opened checkpoint and what may be wrong with it."""

    packed: str | None = None
    checkpoint: Checkpoint | None = None
    ignore_mismatched_sizes: bool = False


class PreTrainedModel(TokenEmbeddings):
    """A model: a configuration, and weights in the compiled core. Calls change nothing, so threads may share it.

    `model(...)` is `forward`; `Model(config, seed=0)` has random weights, `Model.from_pretrained(path)` a
    checkpoint's. Weights may be stored in any float dtype. `dtype` says how they are held and multiplied: "float32"
    (the default, exact), "bfloat16" (half the memory) or "int8" (a quarter: each output's weights with a scale of
    their own, each token's activations likewise, summed in integers; no calibration). Between the products all is
    float32.
    """

    config_class: ClassVar[type[PreTrainedConfig]] = PreTrainedConfig
    base_model_prefix: ClassVar[str] = ""
    # other prefixes that checkpoints of this architecture have, under another head
    other_prefixes: ClassVar[tuple[str, ...]] = ()
    # where the tensors of the model inside belong, and those of a head, whose names in a checkpoint have no prefix
    base_table: TensorTable = {}
    head_table: TensorTable = {}
    # the arrays that `forward` takes
    input_names: ClassVar[tuple[str, ...]] = INPUT_NAMES
    # slots that a checkpoint may lack begin with one of these: they are then initialized newly, with a warning
    optional_slots: ClassVar[tuple[str, ...]] = ()
    # and those of the model inside, under any head
    base_optional_slots: ClassVar[tuple[str, ...]] = ()
    # slots that are no parameters: a checkpoint may lack them, and then they have the values that they always have
    fixed_slots: tuple[str, ...] = ()
    # those of them that transformers has as buffers, and does not count
    buffer_slots: tuple[str, ...] = ()
    # those that files do not hold
    unsaved_slots: ClassVar[tuple[str, ...]] = ()
    # slot -> another, whose tensor fills it where a checkpoint lacks its own
    stand_ins: ClassVar[dict[str, str]] = {}
    # names, or their beginnings, of tensors that checkpoints may hold and that the model does not need: others of it once more
    tied_tensors: tuple[str, ...] = ()
    # the configuration's key of the standard deviation of random weights
    initializer_key: ClassVar[str] = "initializer_range"
    # parameters that files call by another name
    names_in_files: ClassVar[dict[str, str]] = {}
    main_input_name: ClassVar[str] = "input_ids"

    def __init__(
        self,
        config: Any,
        blueprint: dict[str, Any],
        *,
        seed: int = 0,
        dtype: Any = None,
        _weights: Weights = Weights(),
    ) -> None:
        from ._native import Encoder

        self.config = config
        self.training = False
        self.tensor_table = self.base_table | self.head_table
        # of the vectors that are looked up
        self.embedding_size = blueprint["embeddings"].get("size") or blueprint["hidden_size"]
        text = json.dumps(blueprint)
        slots = [(slot, tuple(shape)) for slot, shape in Encoder.slots(text)]
        self.tensor_names = {slot: self._saved_name(slot) for slot, _ in slots}
        # slots that are not trained
        self.frozen_slots: set[str] = set()
        self.match = TensorMatch()
        if _weights.checkpoint is not None:
            self.match = match_tensors(
                slots,
                self.tensor_table,
                _weights.checkpoint,
                (self.base_model_prefix, *self.other_prefixes),
                _weights.ignore_mismatched_sizes,
                config,
                self.optional_slots + self.base_optional_slots,
                self.tensor_names,
                self.tied_tensors,
                self.names_in_files,
                self.stand_ins,
                self.fixed_slots,
            )
        # the compiled model
        self.core: Encoder
        if _weights.packed is not None:
            self.core = Encoder.map(text, _weights.packed, None if dtype_name(dtype) == "auto" else dtype_name(dtype))
        else:
            held = _computed_dtype(dtype, config)
            filled = self.match.filled
            spread = getattr(config, self.initializer_key)
            self.core = Encoder(text, _weights.checkpoint, filled, spread, self.spreads(config, dict(slots)), seed, held)
        self._reload: tuple[Any, ...] | None = None

    # --- what an architecture says ------------------------------------------------------------
    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        """The ingredients of the model, with this pooler and head, in the compiled core's words."""
        raise NotImplementedError(f"{type(self).__name__} is a base class")

    def check(self, config: Any) -> None:
        """Raise ConfigError for settings that cannot be, or that ask for what is not computed."""
        config.validate()
        check_no_code(config)

    def spreads(self, config: Any, slots: dict[str, tuple[int, ...]]) -> dict[str, float]:
        """The standard deviations of random weights where they are not `initializer_key`'s, by their slots."""
        return {}

    def pooler_spec(self, config: Any) -> dict[str, Any] | None:
        """What makes the pooled vector of a row: for a head that reads it, or of the model alone."""
        return {"activation": "tanh"}

    def transform_spec(self, config: Any) -> dict[str, Any] | None:
        """The layer before the head's last, if there is one."""
        return None

    def dropout_rates(self) -> tuple[float, float, float, float]:
        """Of hidden states, of attention's probabilities, of what the head reads, of what the pooler reads."""
        config = self.config
        hidden, head = config.hidden_dropout_prob, getattr(config, "classifier_dropout", None)
        head = hidden if head is None else head
        return hidden, config.attention_probs_dropout_prob, head, head

    def embedding_dropout(self) -> float:
        """Of the embeddings."""
        return self.dropout_rates()[0]

    def inner_dropout_rates(self) -> tuple[float, float]:
        """Of what feed-forward's activation makes, of last hidden states."""
        return 0.0, 0.0

    def dropout(self, seed: int | None) -> tuple[int, list[float]] | None:
        """What the core is told: nothing is dropped without a seed."""
        if seed is None:
            return None
        return seed % 2**64, [self.embedding_dropout(), *self.dropout_rates(), *self.inner_dropout_rates()]

    # --- call ---------------------------------------------------------------------------------
    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **others: Any,
    ) -> Any:
        """Run the model on B rows of T tokens.

        input_ids (B, T): integers (lists, numpy arrays, anything with `__array__`); or else
        inputs_embeds (B, T, E): floats that stand in for the word embeddings.
        attention_mask (B, T): 1 for tokens, 0 for padding, which is never computed (but for models with convolutions, which see it);
        default: all ones.
        token_type_ids, position_ids (B, T) or (1, T): as far as `input_names` has them; default zeros, and 0..T-1 or what
        the architecture counts.
        labels: as the class says; they give a loss.

        Returns the output class of the model, or with `return_dict=False` the tuple of its values. Where the mask
        is zero hidden states are zeros; a pooler reads the first token of a row that is not masked.

        Raises InputError (a ValueError) for shapes and values, TokenIdError (an IndexError too) for ids outside
        their table, TypeError for arrays of the wrong dtype and for arguments that the model has not.
        """
        targets = self.label_arguments(labels, others)
        return self.run(
            self.inputs(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, others=others),
            targets,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=return_dict,
        )

    def label_arguments(self, labels: Any, others: dict[str, Any]) -> dict[str, Any] | None:
        """The labels of a call, taken out of `others`; None without any. TypeError for `labels` that the model has not, InputError where
        some are missing."""
        if labels is not None and "labels" not in self.label_names:
            raise TypeError(f"{type(self).__name__}.forward has no argument 'labels'")
        given = {name: labels if name == "labels" else others.pop(name, None) for name in self.label_names}
        there = [label is not None for label in given.values()]
        if any(there) and not all(there):
            raise InputError(f"{' and '.join(given)} belong together: one of them is missing")
        return given if any(there) else None

    def inputs(self, *arrays: Any, others: dict[str, Any]) -> dict[str, Any]:
        """The arrays of a call, as `INPUT_NAMES` has them and others, by their names. TypeError for those that the model has not."""
        given = dict(zip(INPUT_NAMES, arrays)) | others
        self.refuse_unknown(name for name, value in given.items() if value is not None or name in others)
        return given

    def refuse_unknown(self, names: Iterable[str]) -> None:
        """TypeError for a name that is no argument of `forward` for an array."""
        unknown = [name for name in names if name not in self.input_names]
        if unknown:
            raise TypeError(f"{type(self).__name__}.forward has no argument {', '.join(map(repr, unknown))}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def run(
        self,
        inputs: dict[str, Any],
        labels: dict[str, Any] | None,
        *,
        output_hidden_states: bool | None,
        output_attentions: bool | None,
        return_dict: bool | None,
    ) -> Any:
        """The forward pass, with a loss if there are labels; an option that is None is what the configuration says."""
        shown = self.loss_reads_padding and (labels is not None or self.reads_padding)
        arrays = self._run(self.prepared(inputs), shown, output_hidden_states, output_attentions)
        output = self.outputs(inputs, *arrays)
        if labels is not None:
            output = with_loss(output, self.loss(output, labels, inputs, LossOptions()).value)
        return self._answer(output, return_dict)

    # what a model with a head says differently
    label_names: ClassVar[tuple[str, ...]] = ()
    # whether the loss is of the logits of masked tokens too, which are then computed; whether all outputs are; whether tokens see which
    # words stand in padding, which need not be computed for that
    loss_reads_padding: ClassVar[bool] = False
    reads_padding: ClassVar[bool] = False
    sees_padding: bool = False

    def prepared(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The arrays that the core takes."""
        return inputs

    def outputs(
        self, inputs: dict[str, Any], last: Any, pooled: Any, logits: Any, hidden: Any = None, attentions: Any = None
    ) -> Any:
        """What the core returned, as one of `modeling_outputs`."""
        from .modeling_outputs import BaseModelOutputWithPooling

        return BaseModelOutputWithPooling(last, pooled, hidden, attentions)

    def complete(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch to learn from, with what of its inputs is made of its labels."""
        return batch

    def loss(self, outputs: Any, labels: dict[str, Any], inputs: dict[str, Any], options: LossOptions) -> Loss:
        """Of what `outputs` returned."""
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def loss_gradients(self, gradient: NDArray[np.float32], inputs: dict[str, Any]) -> dict[str, Any]:
        """The gradient of `loss` as `training.Recording.backward` takes it."""
        return {"logits": gradient}

    def num_items(self, labels: dict[str, Any]) -> int:
        """How many labels `loss` takes the mean of."""
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def read_tokens(self, inputs: dict[str, Any]) -> Any:
        """(B, T) of 1 and 0: the tokens that a head on tokens reads, where it does not read all; else None."""
        return None

    def selected(self, labels: dict[str, Any]) -> Any:
        """(B, T) of 1 and 0: the tokens whose logits the loss is of, where all others would cost much; else None."""
        return None

    # --- train --------------------------------------------------------------------------------
    def record(
        self, inputs: dict[str, Any], *, selected: Any, dropout_seed: int | None, gradient_checkpointing: bool
    ) -> tuple[Any, Recording]:
        """`forward` without labels, and what the core needs for the way back: see `training.record`."""
        self.refuse_unknown(inputs)
        given = {name: inputs.get(name) for name in self.input_names}
        arrays = encoder_inputs(self.prepared(given), self.embedding_size)
        if arrays.pop("inputs_embeds") is not None:
            raise NotImplementedError("a model learns from input_ids, not from inputs_embeds")
        selected = self.read_tokens(given) if selected is None else selected
        token_ids = arrays.pop("input_ids")
        assert token_ids is not None  # one of the two is there
        *outputs, recording = self.core.record(
            token_ids,
            **arrays,
            compute_padding=self.reads_padding or self.loss_reads_padding,
            selected=None if selected is None else integer_array("selected", selected),
            dropout=self.dropout(dropout_seed),
            gradient_checkpointing=gradient_checkpointing,
            source=None,
        )
        return self.outputs(given, *outputs[:3]), recording

    def freeze(self, *patterns: str) -> None:
        """Parameters whose names match (as file names do: "bert.embeddings.*") are no longer trained.

        They cost neither gradient nor optimizer state; layers below the lowest that is trained are not gone back through.
        Freeze before the optimizer is made. Raises ValueError for a pattern that matches nothing.
        """
        self.frozen_slots |= self._matching(patterns)

    def unfreeze(self, *patterns: str) -> None:
        """Parameters whose names match are trained again."""
        self.frozen_slots -= self._matching(patterns)

    def _matching(self, patterns: tuple[str, ...]) -> set[str]:
        from fnmatch import fnmatchcase

        found: set[str] = set()
        for pattern in patterns:
            matches = {slot for slot, name in self.tensor_names.items() if fnmatchcase(name, pattern)}
            if not matches:
                raise InputError(f"no parameter of this {type(self).__name__} matches {pattern!r}")
            found |= matches
        return found

    def load_weights(self, directory: str | os.PathLike[str]) -> None:
        """Read the weights of a checkpoint of this very model again, in place: what `save_pretrained` wrote.

        Raises FileNotFoundError, CorruptModelError, WeightMismatchError (before anything is changed).
        """
        checkpoint = open_checkpoint(directory)
        names = self._file_names()
        unknown = sorted(set(checkpoint.names()) - set(names.values()) - set(self.tied_tensors))
        if unknown:
            raise WeightMismatchError(f"{str(directory)!r} is of another model: this one has no {unknown[0]!r}")
        self.core.refill(checkpoint, names)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Set all weights, in place, from arrays under the names that `state_dict()` has."""
        import numpy as np

        slots = {name: slot for slot, name in self.tensor_names.items()}
        wrong = sorted(set(slots) ^ set(state_dict))
        if wrong:
            problem = "is missing" if wrong[0] in slots else "is no weight of this model"
            raise WeightMismatchError(f"state_dict: {wrong[0]!r} {problem}")
        arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in state_dict.items()}
        for name, array in arrays.items():
            shape = self.core.tensor(slots[name]).shape
            if array.shape != shape:
                raise WeightMismatchError(f"state_dict: {name!r} has the shape {array.shape}; the model's is {shape}")
        for name, array in arrays.items():
            self.core.set(slots[name], array)

    def _run(
        self,
        inputs: dict[str, Any],
        compute_padding: bool,
        output_hidden_states: bool | None,
        output_attentions: bool | None,
    ) -> Any:
        """Last hidden state, pooled vectors, logits, hidden states, attentions; None for what there is not. What is masked is zero
        unless `compute_padding`."""
        config, selected, cache = self.config, self.read_tokens(inputs), inputs.get("past_key_values")
        arrays = encoder_inputs(inputs, self.embedding_size)
        last, pooled, logits, hidden, attentions, _ = self.core.forward(
            **arrays,
            compute_padding=self.reads_padding or compute_padding,
            selected=None if selected is None else integer_array("selected", selected),
            output_hidden_states=bool(_first(output_hidden_states, config.output_hidden_states)),
            output_attentions=bool(_first(output_attentions, config.output_attentions)),
            cache=None if cache is None else cache.core,
            source=None,
            encode=False,
        )
        if self.reads_padding and not compute_padding and arrays["attention_mask"] is not None:
            padding = arrays["attention_mask"] == 0
            of_tokens = [last, *(hidden or []), *(heads.swapaxes(1, 2) for heads in attentions or [])]
            for array in of_tokens + [logits if logits is not None and logits.ndim == 3 else None]:
                if array is not None:
                    array[padding] = 0
        return last, pooled, logits, _tuple(hidden), _tuple(attentions)

    def _answer(self, output: Any, return_dict: bool | None) -> Any:
        return output if _first(return_dict, self.config.return_dict) else output.to_tuple()

    def _saved_name(self, slot: str) -> str:
        """The name in a checkpoint of this class: what is not the head's belongs to the model inside."""
        name = checkpoint_name(slot, self.tensor_table)
        inside = self.head_table and slot not in self.head_table and slot.rpartition(".")[0] not in self.head_table
        return f"{self.base_model_prefix}.{name}" if inside else name

    def _file_names(self) -> dict[str, str]:
        """Of each slot, as `save_pretrained` writes it."""
        names = {slot: self.names_in_files.get(name, name) for slot, name in self.tensor_names.items()}
        return {slot: name for slot, name in names.items() if slot not in self.unsaved_slots}

    # --- load ---------------------------------------------------------------------------------
    @classmethod
    def from_pretrained(
        cls: type[Self],
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        config: PreTrainedConfig | str | os.PathLike[str] | None = None,
        dtype: Any = None,
        torch_dtype: Any = None,
        device_map: Any = None,
        attn_implementation: str | None = None,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        subfolder: str = "",
        variant: str | None = None,
        use_safetensors: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Read a model from a directory or a hub repository: config.json, and model.safetensors or its shards, or where there is neither
        pytorch_model.bin or its shards, of which nothing is run.

        A directory may hold model.packed.safetensors (`save_pretrained(packed=True)`) instead or as well. It is mapped,
        not read: nothing is copied, and processes share it. Beside a checkpoint it serves if its dtype is the one that
        is asked for and it fits this CPU and version; alone, dtype=None and "auto" take the one that it has. If the file
        is changed in place later, calls raise CorruptModelError as far as its size and time of change tell; one that is
        cut short during a call can end the process by SIGBUS. `save_pretrained` replaces files and does neither.

        config: used in place of config.json: a configuration, or where to read it.
        dtype: "float32" (also None), "bfloat16", "int8" (see the class); "auto": bfloat16 if config.json says so, else
        float32. Others are not computed (NotImplementedError).
        device_map: None, "cpu" or "auto"; attn_implementation: None, "eager" or "sdpa", all the same here.
        ignore_mismatched_sizes: initialize tensors of another shape newly, with a warning, instead of an error.
        variant: the files' name has it: of model.fp16.safetensors "fp16". use_safetensors: True reads no pytorch_model.bin, False reads
        nothing else. With a variant or with False a packed file does not serve.
        output_loading_info: return (model, dict of missing_keys, unexpected_keys, mismatched_keys, error_msgs).
        revision, token, cache_dir, local_files_only, force_download: for the hub, unused for a directory.
        Others override settings of the configuration, or are arguments of the class (`add_pooling_layer`).

        Raises FileNotFoundError (also where only other formats or variants are there), NotADirectoryError, PermissionError;
        ConnectionError (the hub does not answer, and its cache lacks a file), ImportError (a hub name without
        huggingface_hub); ConfigError, InputError (a ValueError), WeightMismatchError (a RuntimeError), CorruptModelError (an OSError);
        NotImplementedError (a dtype); TypeError (unknown argument).
        """
        dtype = _first(dtype, torch_dtype)
        _check_computable(dtype, device_map, attn_implementation)
        where = {key: kwargs.pop(key) for key in HUB_ARGUMENTS if key in kwargs} | {"subfolder": subfolder}
        settings, model_arguments = cls._resolve_config(pretrained_model_name_or_path, config, where, kwargs)
        settings.name_or_path = str(pretrained_model_name_or_path)
        model_arguments["dtype"] = dtype
        files: dict[str, Any] = {"variant": variant, "use_safetensors": use_safetensors}
        packed = variant is None and use_safetensors is not False
        model = cls._map(pretrained_model_name_or_path, settings, model_arguments, subfolder) if packed else None
        if model is None:
            checkpoint = open_checkpoint(pretrained_model_name_or_path, **files, **where)
            weights = Weights(None, checkpoint, ignore_mismatched_sizes)
            model = cls(settings, **model_arguments, _weights=weights)
        _warn(report(model.match, cls.__name__, pretrained_model_name_or_path))
        model.read_beside(pretrained_model_name_or_path, where)
        options = {"subfolder": subfolder, "ignore_mismatched_sizes": ignore_mismatched_sizes, **files}
        model._remember(pretrained_model_name_or_path, options | model_arguments)
        return (model, model.match.loading_info()) if output_loading_info else model

    def read_beside(self, name_or_path: str | os.PathLike[str], where: dict[str, Any]) -> None:
        """Read what files beside the weights say."""

    @classmethod
    def _map(
        cls: type[Self], name_or_path: str | os.PathLike[str], config: Any, arguments: dict[str, Any], subfolder: str
    ) -> Self | None:
        """From the packed file; None if there is none, or if it does not serve and a checkpoint is beside it."""
        packed = find_packed(name_or_path, subfolder)
        if packed is None:
            return None
        if not has_checkpoint(name_or_path, subfolder):
            return cls(config, **arguments, _weights=Weights(packed))
        try:
            wanted = arguments | {"dtype": _computed_dtype(arguments["dtype"], config)}
            return cls(config, **wanted, _weights=Weights(packed))
        except CorruptModelError as error:
            _warn(f"{error}: the checkpoint beside it is loaded instead")
        except WeightMismatchError:
            pass  # it is for another dtype, CPU or version
        return None

    @classmethod
    def _resolve_config(
        cls, name_or_path: str | os.PathLike[str], config: Any, where: dict[str, Any], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        found: tuple[Any, dict[str, Any]]
        if not isinstance(config, PreTrainedConfig):
            source = name_or_path if config is None else config
            found = cls.config_class.from_pretrained(source, return_unused_kwargs=True, **where, **kwargs)
            return found
        # The caller's object stays as it is. What is left at its default may depend on an override: labels do.
        found = cls.config_class.from_dict(config.to_diff_dict(), return_unused_kwargs=True, **kwargs)
        return found

    def _remember(self, name_or_path: str | os.PathLike[str], options: dict[str, Any]) -> None:
        path = os.path.expanduser(name_or_path)
        if os.path.isdir(path):
            self._reload = (type(self), os.path.abspath(path), options)

    def __reduce__(self) -> Any:
        if self._reload is None:
            raise TypeError(
                f"this {type(self).__name__} cannot be pickled: only models that were loaded from a local directory "
                "are, by their path; save_pretrained it and load it from there"
            )
        return _reload, (*self._reload, self.config)

    # --- save ---------------------------------------------------------------------------------
    def save_pretrained(self, save_directory: str | os.PathLike[str], *, packed: bool = False) -> None:
        """Write config.json and model.safetensors; each file is replaced as a whole or not at all.

        packed: write model.packed.safetensors instead, which only ferroformer reads, on CPUs like this one: the weights
        as they lie in memory, so that loading takes no time and processes share them (see `from_pretrained`).

        Raises ValueError for an int8 model that is not `packed`: a checkpoint cannot say what int8 has rounded.
        """
        dtype = self.core.dtype
        if not packed and dtype == "int8":
            raise ValueError("an int8 model has no weights for a plain checkpoint: save_pretrained(path, packed=True)")
        os.makedirs(save_directory, exist_ok=True)
        saved = self.config_class.from_dict(self.config.to_dict())
        saved.update({"architectures": [type(self).__name__]})
        if packed:
            self.core.save_packed(os.path.join(save_directory, PACKED_NAME))
        else:
            saved.dtype = dtype
            self.core.save(os.path.join(save_directory, WEIGHTS_NAME), self._file_names())
        saved.save_pretrained(save_directory)

    # --- what it is ---------------------------------------------------------------------------
    def state_dict(self) -> dict[str, NDArray[np.float32]]:
        """Copies of all weights under their names in a checkpoint."""
        return dict(self.named_parameters())

    def named_parameters(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """(name, copy) of one weight after the other."""
        for slot, name in self.tensor_names.items():
            yield name, self.core.tensor(slot)

    def num_parameters(self) -> int:
        """The number of weights."""
        buffers = [slot for slot in self.buffer_slots if slot in self.tensor_names]
        return self.core.num_parameters() - sum(self.core.tensor(slot).size for slot in buffers)

    def memory_footprint(self) -> int:
        """Bytes of the weights; those in a mapped file count, though processes share them."""
        return self.core.memory_footprint()

    get_memory_footprint = memory_footprint

    @property
    def dtype(self) -> Any:
        """How weights are held and multiplied: numpy's float32 or int8, or "bfloat16", which numpy lacks."""
        import numpy as np

        return "bfloat16" if self.core.dtype == "bfloat16" else np.dtype(self.core.dtype)

    @property
    def device(self) -> str:
        """Always "cpu"."""
        return "cpu"

    @property
    def name_or_path(self) -> str:
        """Where the model was loaded from."""
        return str(self.config.name_or_path)

    def eval(self: Self) -> Self:
        """Set inference mode, which models are in from the start; returns the model."""
        return self.train(False)

    def train(self: Self, mode: bool = True) -> Self:
        """Set training mode, in which `ferroformer.training` drops what the configuration says; returns the model.

        A plain call never drops anything.
        """
        self.training = mode
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_parameters():,} parameters, {self.name_or_path or 'random weights'!r})"


def with_loss(output: Any, loss: Any) -> Any:
    """The output, beginning with a loss."""
    return type(output)(**{"loss": loss} | {name: output[name] for name in output if name != "loss"})


def _reload(cls: type[PreTrainedModel], path: str, options: dict[str, Any], config: PreTrainedConfig) -> Any:
    return cls.from_pretrained(path, config=config, **options)


def _check_computable(dtype: Any, device_map: Any, attn_implementation: Any) -> None:
    if dtype_name(dtype) not in (None, "auto", *_DTYPES):
        raise NotImplementedError(f"dtype={dtype_name(dtype)!r} is not computed; allowed are {', '.join(_DTYPES)}, auto")
    if device_map not in _DEVICES:
        raise ValueError(f"device_map={device_map!r}: models run on the CPU; allowed are None, 'cpu' and 'auto'")
    if attn_implementation not in _ATTENTIONS:
        raise ValueError(f"attn_implementation={attn_implementation!r}: allowed are None, 'eager' and 'sdpa'")


def _computed_dtype(dtype: Any, config: Any) -> str:
    """One of `_DTYPES`."""
    if dtype_name(dtype) == "auto":
        return "bfloat16" if dtype_name(config.dtype) == "bfloat16" else "float32"
    _check_computable(dtype, None, None)
    return "float32" if dtype is None else str(dtype_name(dtype))


def _warn(text: str | None) -> None:
    if text is not None:
        import logging

        logging.getLogger(__name__).warning(text)


def _first(value: Any, default: Any) -> Any:
    return default if value is None else value


def _tuple(arrays: list[Any] | None) -> tuple[Any, ...] | None:
    return None if arrays is None else tuple(arrays)
