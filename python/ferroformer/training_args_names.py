"""The arguments of transformers' TrainingArguments that are fields here under another name, or are none.

Each is taken by name: an old spelling is turned into the new one with a FutureWarning; what changes nothing on a CPU without torch
is a UserWarning; what would leave the user with something else than they asked for is an error.
"""

from __future__ import annotations

import warnings
from typing import Any

# old spelling -> field
_RENAMED = {
    "evaluation_strategy": "eval_strategy",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "warmup_ratio": "warmup_steps",
    "group_by_length": "train_sampling_strategy",
    "activation_checkpointing": "gradient_checkpointing",
}
_NOT_OLD = ("activation_checkpointing",)  # so it is called since transformers 5.23

# what these ask for is so in any case, or makes no difference in one process on one CPU
_ALWAYS = (
    "use_cpu",
    "no_cuda",
    "full_determinism",
    "restore_callback_states_from_checkpoint",
    "save_safetensors",
    "average_tokens_across_devices",
    "log_on_each_node",
    "dataloader_in_order",
    "dataloader_pin_memory",
)

# what happens -> name -> the value that asks for nothing else
_WITHOUT_EFFECT: dict[str, dict[str, Any]] = {
    "weights, activations and gradients are float32": {
        "fp16": False,
        "bf16": False,
        "fp16_full_eval": False,
        "bf16_full_eval": False,
        "fp16_opt_level": "O1",
        "fp16_backend": "auto",
        "half_precision_backend": "auto",
        "tf32": False,
    },
    "there is one process on one CPU": {
        "use_mps_device": False,
        "use_ipex": False,
        "torch_empty_cache_steps": None,
        "local_rank": -1,
        "ddp_backend": None,
        "ddp_find_unused_parameters": False,
        "ddp_bucket_cap_mb": None,
        "ddp_broadcast_buffers": False,
        "ddp_static_graph": False,
        "ddp_timeout": 1800,
        "accelerator_config": None,
        "split_batches": False,
        "dispatch_batches": False,
        "save_on_each_node": False,
        "log_level_replica": "warning",
        "eval_use_gather_object": False,
    },
    "batches are made in the process that trains": {
        "dataloader_num_workers": 0,
        "dataloader_persistent_workers": False,
        "dataloader_prefetch_factor": None,
        "dataloader_multiprocessing_context": None,
    },
    "the kernels are compiled already": {
        "torch_compile": False,
        "torch_compile_backend": None,
        "torch_compile_mode": None,
        "jit_mode_eval": False,
        "use_liger_kernel": False,
        "liger_kernel_config": None,
    },
    "nothing is pushed to the hub": {
        "hub_model_id": None,
        "hub_strategy": "every_save",
        "hub_token": None,
        "hub_private_repo": False,
        "hub_always_push": False,
        "hub_revision": None,
    },
    "there is one way of gradient checkpointing": {
        "gradient_checkpointing_kwargs": None,
        "activation_checkpointing_kwargs": None,
    },
    "no service keeps runs": {
        "run_name": None,
        "project": "huggingface",
        "trackio_space_id": None,
        "trackio_bucket_id": None,
        "trackio_static_space_id": None,
    },
    "a run writes into output_dir whether it is empty or not": {"overwrite_output_dir": True},
    "predictions are numpy arrays from the beginning": {"eval_accumulation_steps": None},
    "a loss that is not finite stops the training": {"logging_nan_inf_filter": True},
    "the progress bar shows tokens per second": {"include_num_input_tokens_seen": "no", "include_tokens_per_second": False},
    "training keeps no cache": {"use_cache": False},
    "Python's logging has the levels": {"log_level": "passive"},
    "memory is not measured": {"skip_memory_metrics": True},
    "there is nothing that it could show": {"debug": ""},
}

# what to do instead -> name -> the value that asks for nothing
_REFUSED: dict[str, dict[str, Any]] = {
    "training runs in one process": {"deepspeed": None, "fsdp": "", "fsdp_config": None, "parallelism_config": None},
    "save_model, then call huggingface_hub's upload_folder": {"push_to_hub": False},
    "embeddings are trained without noise": {"neftune_noise_alpha": None},
    "choose per_device_train_batch_size; gradient_accumulation_steps makes up for a small one": {"auto_find_batch_size": False},
    "frozen_parameters leaves parameters out": {"optim_target_modules": None},
    "a run that is resumed goes on where it was in the data": {"ignore_data_skip": False},
    "compute_metrics gets all predictions at once; preprocess_logits_for_metrics makes them less": {"batch_eval_metrics": False},
    "the predictions of all batches are one array": {"eval_do_concat_batches": True},
    "predictions are logits": {"predict_with_generate": False},
    "save_steps saves regularly": {"enable_jit_checkpoint": False},
}


def take_foreign_names(given: dict[str, Any]) -> dict[str, Any]:
    """`given` with the names above taken out, or turned into those of fields.

    Raises NotImplementedError for an argument that is refused, ValueError for a field that has two names at once.
    """
    without_effect, refused = _by_name(_WITHOUT_EFFECT), _by_name(_REFUSED)
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if name in without_effect:
            harmless, what_happens = without_effect[name]
            if value != harmless and (value or harmless is True):
                warnings.warn(f"{name}={value!r} has no effect: {what_happens}", UserWarning, stacklevel=3)
        elif name in refused:
            harmless, instead = refused[name]
            if value not in (None, harmless):
                raise NotImplementedError(f"{name}={value!r} is not supported: {instead}")
        elif name in _RENAMED:
            fields.update(_renamed(name, value, given))
        elif name not in _ALWAYS:
            fields[name] = value
    return fields


def _by_name(table: dict[str, dict[str, Any]]) -> dict[str, tuple[Any, str]]:
    return {name: (harmless, text) for text, names in table.items() for name, harmless in names.items()}


def _renamed(name: str, value: Any, given: dict[str, Any]) -> dict[str, Any]:
    field = _RENAMED[name]
    if name not in _NOT_OLD:
        warnings.warn(f"{name} is an old name: use {field}", FutureWarning, stacklevel=4)
    if name == "warmup_ratio" and given.get("warmup_steps"):
        return {}  # steps win, as they did in transformers
    if name != "warmup_ratio" and field in given:
        raise ValueError(f"{name}={value!r} and {field}={given[field]!r}: give one of them")
    return {} if value is None else {field: _converted(name, value)}


def _converted(name: str, value: Any) -> Any:
    if name == "warmup_ratio" and not 0 <= value < 1:
        raise ValueError(f"warmup_ratio={value}: a number in [0, 1) is needed")
    if name == "group_by_length":
        return "group_by_length" if value else "random"
    return value
