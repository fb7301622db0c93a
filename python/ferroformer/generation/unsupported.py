"""What transformers' `generate` has and this one refuses by name, rather than compute something else."""

from __future__ import annotations

from typing import Any

# Settings, and the values with which they ask for nothing (None is one of them).
SETTINGS: dict[str, tuple[Any, ...]] = {
    # other ways to search
    "num_beam_groups": (1,),
    "diversity_penalty": (0.0,),
    "penalty_alpha": (0.0,),
    "dola_layers": (),
    "constraints": (),
    "force_words_ids": (),
    "low_memory": (False,),
    # other warpers and processors
    "top_h": (),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "guidance_scale": (1, 1.0),
    "watermarking_config": (),
    "token_healing": (False,),
    # speculation by another model
    "use_mtp": (False,),
    "assistant_early_exit": (),
    "assistant_ensemble_weight": (),
    "speculation_type": (),
    # what the cache is made of: it is always the one that there is
    "cache_implementation": ("dynamic", "hybrid"),
    "cache_config": (),
    "prefill_chunk_size": (),
    # what is not kept of a step
    "output_attentions": (False,),
    "output_hidden_states": (False,),
    # compilers of torch
    "compile_config": (),
    "continuous_batching_config": (),
}

# Arguments of `generate` that are no settings.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "synced_gpus": (False,),
    "assistant_model": (),
    "assistant_tokenizer": (),
    "negative_prompt_ids": (),
    "negative_prompt_attention_mask": (),
    "custom_generate": (),
    "trust_remote_code": (False,),
    "inputs_embeds": (),
    "encoder_outputs": (),
}


def refuse(given: dict[str, Any], table: dict[str, tuple[Any, ...]]) -> None:
    """NotImplementedError for the first name of the table that asks for something."""
    for name, idle in table.items():
        value = given.get(name)
        if value is not None and not any(type(value) is type(rest) and value == rest for rest in idle):
            raise NotImplementedError(f"generate() has no {name} (got {value!r:.200}); see docs/generation.md")
