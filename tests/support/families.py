"""Tiny models of many families, with random weights, made by transformers' own classes.

Each has the real structure of its family (experts, recurrent layers, windows, wrappers with a
vision part), a few layers of a few dozen features, and the tests' tiny tokenizer.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
MHA = TEXT | {"num_key_value_heads": 4}
EXPERTS: dict[str, Any] = TEXT | {
    "moe_intermediate_size": 16,
    "num_experts": 4,
    "num_experts_per_tok": 2,
}
WINDOW = TEXT | {"head_dim": 8, "sliding_window": 6}
LATENT: dict[str, Any] = EXPERTS | {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 2,
    "q_lora_rank": 12,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}
LINEAR: dict[str, Any] = TEXT | {
    "head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "num_hidden_layers": 4,
}
MAMBA: dict[str, Any] = TEXT | {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_d_ssm": 64,
    "mamba_expand": 2,
    "mamba_chunk_size": 8,
}
GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
QWEN_VISION: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 16,
    "embed_dim": 16,
    "intermediate_size": 24,
    "num_heads": 2,
    "patch_size": 14,
    "out_hidden_size": 32,
    "num_position_embeddings": 16,
    "fullatt_block_indexes": [1],
    "deepstack_visual_indexes": [1],
}
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}
GEMMA4 = WINDOW | {"global_head_dim": 16, "hidden_size_per_layer_input": 8}
FULL, SLIDING = "full_attention", "sliding_attention"
MIXED = {"layer_types": [SLIDING, FULL, SLIDING]}

FAMILIES: dict[str, dict[str, Any]] = {
    "apertus": TEXT,
    "arcee": TEXT,
    "bamba": MAMBA | {"attn_layer_indices": [1]},
    "bloom": {"hidden_size": 32, "n_layer": 3, "n_head": 4},
    "codegen": GPT2 | {"n_ctx": 256, "rotary_dim": 4},
    "cohere": TEXT,
    "cohere2": WINDOW | MIXED,
    "deepseek_v2": LATENT | {"topk_method": "greedy"},
    "deepseek_v3": LATENT,
    "ernie4_5": TEXT,
    "exaone4": WINDOW | MIXED,
    "falcon": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4},
    "falcon_h1": MAMBA,
    "falcon_mamba": {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 4},
    "gemma": TEXT | {"head_dim": 8},
    "gemma2": WINDOW | MIXED | {"query_pre_attn_scalar": 8},
    "gemma3": {
        "text_config": WINDOW | MIXED | {"query_pre_attn_scalar": 8},
        "vision_config": VISION,
        "mm_tokens_per_image": 4,
    },
    "gemma3_text": WINDOW | MIXED | {"query_pre_attn_scalar": 8},
    "gemma4": {
        "text_config": GEMMA4 | MIXED | {"vocab_size_per_layer_input": 520},
        "vision_config": VISION | {"head_dim": 8, "num_key_value_heads": 2},
        "audio_config": None,
    },
    "gemma4_text": GEMMA4 | MIXED | {"vocab_size_per_layer_input": 520},
    "glm": TEXT | {"head_dim": 8},
    "glm4": TEXT | {"head_dim": 8},
    "glm4_moe": LATENT | {"head_dim": 8, "num_key_value_heads": 2},
    "gpt2": GPT2,
    "gpt_bigcode": GPT2,
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 6,
        "max_position_embeddings": 256,
    },
    "gpt_neox": MHA,
    "gpt_oss": WINDOW | MIXED | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gptj": GPT2 | {"rotary_dim": 4},
    "granite": TEXT | {"logits_scaling": 4.0, "residual_multiplier": 0.5},
    "granitemoe": TEXT | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "granitemoehybrid": MAMBA
    | {
        "layer_types": ["mamba", "attention", "mamba"],
        "num_local_experts": 0,
        "shared_intermediate_size": 48,
    },
    "hunyuan_v1_dense": TEXT | {"head_dim": 8},
    "jamba": TEXT
    | {
        "attn_layer_period": 3,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
    },
    "lfm2": TEXT | {"layer_types": ["conv", FULL, "conv"]},
    "llama": TEXT,
    "llama4_text": EXPERTS
    | {
        "num_hidden_layers": 4,
        "head_dim": 8,
        "intermediate_size_mlp": 48,
        "num_local_experts": 4,
        "num_experts_per_tok": 1,
        "attention_chunk_size": 8,
        "interleave_moe_layer_step": 2,
    },
    "mamba": {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 4},
    "mamba2": {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "state_size": 8,
        "num_heads": 4,
        "head_dim": 16,
        "n_groups": 1,
        "chunk_size": 8,
    },
    "ministral": WINDOW | {"layer_types": [SLIDING, FULL, SLIDING]},
    "ministral3": TEXT | {"head_dim": 8},
    "mistral": WINDOW,
    "mistral3": {
        "text_config": TEXT | {"model_type": "mistral", "head_dim": 8},
        "vision_config": VISION | {"model_type": "pixtral", "head_dim": 8},
    },
    "mixtral": TEXT | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 256},
    "nemotron": TEXT,
    "nemotron_h": TEXT
    | {
        "hybrid_override_pattern": "M*-M",
        "num_hidden_layers": 4,
        "head_dim": 8,
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "ssm_state_size": 8,
        "n_groups": 1,
        "chunk_size": 8,
    },
    "olmo": TEXT,
    "olmo2": TEXT,
    "olmo3": WINDOW | MIXED,
    "olmoe": EXPERTS,
    "opt": {
        "hidden_size": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "word_embed_proj_dim": 32,
    },
    "persimmon": MHA,
    "phi": MHA,
    "phi3": WINDOW,
    "qwen2": TEXT,
    "qwen2_5_vl": {"text_config": TEXT | MROPE, "vision_config": QWEN_VISION},
    "qwen2_moe": EXPERTS | {"shared_expert_intermediate_size": 16},
    "qwen3": TEXT | {"head_dim": 16},
    "qwen3_5": {
        "text_config": LINEAR
        | {
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [1, 1, 0],
            }
        },
        "vision_config": QWEN_VISION,
    },
    "qwen3_5_text": LINEAR,
    "qwen3_moe": EXPERTS | {"head_dim": 8},
    "qwen3_next": LINEAR
    | {
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
    },
    "qwen3_vl": {
        "text_config": TEXT | MROPE | {"head_dim": 8},
        "vision_config": QWEN_VISION,
    },
    "recurrent_gemma": TEXT
    | {"lru_width": 32, "attention_window_size": 6, "num_key_value_heads": 1},
    "rwkv": {"hidden_size": 32, "num_hidden_layers": 3, "context_length": 256},
    "seed_oss": TEXT | {"head_dim": 8},
    "smollm3": TEXT,
    "stablelm": TEXT,
    "starcoder2": WINDOW,
}
"""Model type → what its configuration has besides the defaults."""


def write_family(family: str, folder: Path, tokenizer_folder: Path, **changes: Any) -> Path:
    """Write a tiny model of a family, with the tokenizer of another folder; return the folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    size = 520  # the tokenizer has 512
    ids = {"vocab_size": size, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    options = FAMILIES[family] | changes
    if "text_config" in options:
        options["text_config"] = options["text_config"] | ids
        for number, name in enumerate(("image", "video", "audio", "vision_start", "vision_end")):
            options[f"{name}_token_id"] = size - 1 - number
        options["image_token_index"] = size - 1
    else:
        options |= ids
    torch.manual_seed(3)
    config = AutoConfig.for_model(family, **options)
    # A wrapper's files hold all its parts, whichever of them is loaded later.
    auto = AutoModelForImageTextToText if "text_config" in options else AutoModelForCausalLM
    model = auto.from_config(config)
    with torch.no_grad():  # wide enough that every part changes the predictions
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    for file in tokenizer_folder.glob("*token*"):
        shutil.copy(file, folder)
    return folder
