"""Tiny configurations of many families of causal language models: two layers, 32 wide, a vocabulary of 96."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

VOCABULARY, POSITIONS = 96, 256
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "num_experts_per_tok": 2,
}
SCAN = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 8}
LONG_ROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "original_max_position_embeddings": 24,
    "factor": 4.0,
    "rope_theta": 10_000.0,
}

# Whose cache cannot be shared, or is not that of whole prompts for prompts of more tokens than a window holds.
READ_WHOLE = {
    "bamba",
    "cohere2",
    "exaone4",
    "falcon h1",
    "falcon mamba",
    "gemma2",
    "gemma3",
    "gpt",
    "gpt neo",
    "gpt-oss",
    "granite hybrid",
    "jamba",
    "lfm2",
    "llama4",
    "mamba",
    "mamba2",
    "minimax",
    "ministral",
    "mistral, window",
    "modernbert decoder",
    "olmo hybrid",
    "olmo3",
    "phi3, longrope",
    "qwen2, window",
    "qwen3 next",
    "recurrent gemma",
    "rwkv",
    "vaultgemma",
    "zamba2",
}

# By name: the family, and what it needs beside `SIZES`. Where a window slides or positions are rotated otherwise, that
# is within the prompts of the tests.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "apertus": ("apertus", {}),
    "arcee": ("arcee", {}),
    "bamba": ("bamba", {**SCAN, "attn_layer_indices": [1]}),
    "biogpt": ("biogpt", {}),
    "bitnet": ("bitnet", {}),
    "bloom": ("bloom", {}),
    "codegen": ("codegen", {"rotary_dim": 4}),
    "cohere": ("cohere", {}),
    "cohere2": ("cohere2", {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}),
    "ctrl": ("ctrl", {"dff": 64}),
    "dbrx": (
        "dbrx",
        {
            "attn_config": {"kv_n_heads": 2, "rope_theta": 10_000.0, "clip_qkv": 8.0},
            "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
        },
    ),
    "deepseek v2": ("deepseek_v2", LATENT),
    "deepseek v3": ("deepseek_v3", LATENT),
    "diffllama": ("diffllama", {}),
    "doge": ("doge", {}),
    "exaone4": ("exaone4", {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}),
    "falcon": ("falcon", {}),
    "falcon, alibi": ("falcon", {"alibi": True, "new_decoder_architecture": False}),
    "falcon h1": ("falcon_h1", {**SCAN, "mamba_d_ssm": 64}),
    "falcon mamba": ("falcon_mamba", {"state_size": 8}),
    "gemma": ("gemma", {}),
    "gemma2": ("gemma2", {"sliding_window": 8}),
    "gemma3": ("gemma3_text", {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}),
    "glm": ("glm", {}),
    "glm4": ("glm4", {}),
    "gpt": ("openai-gpt", {}),
    "gpt2": ("gpt2", {}),
    "gpt bigcode": ("gpt_bigcode", {}),
    "gpt neo": ("gpt_neo", {"attention_types": [[["global", "local"], 1]], "window_size": 8}),
    "gpt neox": ("gpt_neox", {}),
    "gpt-j": ("gptj", {"rotary_dim": 4}),
    "gpt-oss": ("gpt_oss", {**EXPERTS, "sliding_window": 8}),
    "granite": ("granite", {}),
    "granite moe": ("granitemoe", EXPERTS),
    "granite hybrid": (
        "granitemoehybrid",
        {**SCAN, "layer_types": ["mamba", "attention"], "shared_intermediate_size": 64},
    ),
    "helium": ("helium", {}),
    "hunyuan": ("hunyuan_v1_dense", {}),
    "jamba": ("jamba", {**EXPERTS, "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False}),
    "jetmoe": ("jetmoe", {"kv_channels": 8}),
    "lfm2": ("lfm2", {"layer_types": ["conv", "full_attention"]}),
    "llama": ("llama", {}),
    "llama, dynamic": ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}}),
    "llama, yarn": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "factor": 4.0,
                "rope_theta": 10_000.0,
                "original_max_position_embeddings": 24,
            }
        },
    ),
    "llama4": ("llama4_text", {**EXPERTS, "attention_chunk_size": 8, "intermediate_size_mlp": 64}),
    "mamba": ("mamba", {"state_size": 8}),
    "mamba2": ("mamba2", {"state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8}),
    "minimax": ("minimax", {**EXPERTS, "layer_types": ["linear_attention", "full_attention"], "block_size": 8}),
    "ministral": ("ministral", {"sliding_window": 8}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral, window": ("mistral", {"sliding_window": 8}),
    "mixtral": ("mixtral", EXPERTS),
    "modernbert decoder": ("modernbert-decoder", {"local_attention": 8}),
    "mpt": ("mpt", {}),
    "nanochat": ("nanochat", {}),
    "nemotron": ("nemotron", {}),
    "olmo": ("olmo", {}),
    "olmo2": ("olmo2", {}),
    "olmo3": ("olmo3", {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}),
    "olmo hybrid": ("olmo_hybrid", {}),
    "olmoe": ("olmoe", EXPERTS),
    "opt": ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "opt, narrow": ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "persimmon": ("persimmon", {}),
    "phi": ("phi", {}),
    "phi3": ("phi3", {}),
    "phi3, longrope": (
        "phi3",
        {"original_max_position_embeddings": 24, "max_position_embeddings": POSITIONS, "rope_parameters": LONG_ROPE},
    ),
    "phimoe": ("phimoe", EXPERTS),
    "qwen2": ("qwen2", {}),
    "qwen2, window": ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    "qwen2 moe": ("qwen2_moe", {**EXPERTS, "shared_expert_intermediate_size": 32}),
    "qwen3": ("qwen3", {}),
    "qwen3 moe": ("qwen3_moe", EXPERTS),
    "qwen3 next": (
        "qwen3_next",
        {
            **EXPERTS,
            "layer_types": ["linear_attention", "full_attention"],
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "shared_expert_intermediate_size": 32,
        },
    ),
    "recurrent gemma": (
        "recurrent_gemma",
        {"block_types": ["recurrent", "attention"], "lru_width": 32, "attention_window_size": 8},
    ),
    "rwkv": ("rwkv", {"attention_hidden_size": 32}),
    "seed-oss": ("seed_oss", {}),
    "smollm3": ("smollm3", {}),
    "stablelm": ("stablelm", {}),
    "starcoder2": ("starcoder2", {}),
    "vaultgemma": ("vaultgemma", {"sliding_window": 8}),
    "xglm": ("xglm", {"ffn_dim": 64}),
    "zamba2": (
        "zamba2",
        {**SCAN, "layers_block_type": ["mamba", "hybrid"], "n_mamba_heads": 4, "mamba_ngroups": 1, "chunk_size": 8},
    ),
}


def configuration(name: str) -> PretrainedConfig:
    """The tiny configuration of that name."""
    family, own = ARCHITECTURES[name]
    known = AutoConfig.for_model(family)
    fixed = {name for name, value in vars(type(known)).items() if isinstance(value, property)}
    named = [key for key in SIZES if (hasattr(known, key) or key in known.attribute_map) and key not in fixed]
    shared = {key: SIZES[key] for key in named}
    config = AutoConfig.for_model(family, **(shared | own))
    if family == "dbrx":
        config.ffn_config.hidden_size = SIZES["hidden_size"]  # which it does not pass on to its experts
    return config


def random_model(name: str) -> PreTrainedModel:
    """A model of it whose weights are so wide that a token or a position read wrongly shows in the scores."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(configuration(name)).eval()
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.3)
    return model
