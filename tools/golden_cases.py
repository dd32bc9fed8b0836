"""The tiny checkpoints that make_golden.py makes: tests/golden/README.md says what each is there for."""

from dataclasses import dataclass, field


@dataclass
class Case:
    name: str
    seed: int
    config: dict  # as transformers 5 has it, "rope_theta" aside
    dtype: str = "bfloat16"  # of the file
    form: int = 5  # of config.json: as transformers 4 or 5 writes it
    layout: str = "separate"  # experts one by one; "fused"; "sharded": separate, in three files
    prompt: int = 48
    embedding: float = 1.0  # standard deviation
    generation: dict | None = None  # generation_config.json
    wrong: dict = field(default_factory=dict)  # wrong values of config.json that must change the logits


def moe(layers, hidden, heads, kv_heads, experts, top_k, expert, shared, vocab, theta, **more):
    return {
        "model_type": "qwen2_moe", "num_hidden_layers": layers, "hidden_size": hidden,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "num_experts": experts,
        "num_experts_per_tok": top_k, "moe_intermediate_size": expert,
        "shared_expert_intermediate_size": shared, "intermediate_size": 44, "vocab_size": vocab,
        "rope_theta": theta, "max_position_embeddings": 512, **more,
    }  # fmt: skip


def dense(layers, hidden, heads, kv_heads, ffn, vocab, theta, **more):
    return {
        "model_type": "qwen2", "num_hidden_layers": layers, "hidden_size": hidden,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "intermediate_size": ffn,
        "vocab_size": vocab, "rope_theta": theta, "max_position_embeddings": 512, **more,
    }  # fmt: skip


def shape(family, layers, hidden, heads, kv_heads, vocab, theta, **more):
    return {
        "model_type": family, "num_hidden_layers": layers, "hidden_size": hidden,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocab,
        "rope_theta": theta, "max_position_embeddings": 512, **more,
    }  # fmt: skip


def experts(number, top_k, width):
    """The keys of qwen3_moe."""
    return {"num_experts": number, "num_experts_per_tok": top_k, "moe_intermediate_size": width,
            "intermediate_size": 44}  # fmt: skip


def wide_experts(key, number, top_k, width):
    """The keys of families all of whose layers have experts."""
    return {key: number, "num_experts_per_tok": top_k, "intermediate_size": width}


CASES = [
    # The shape of Qwen1.5-MoE-A2.7B's config.json: qkv_bias and mlp_only_layers are not there.
    Case("moe-published", 31, moe(2, 64, 4, 4, 6, 2, 16, 24, 128, 1000000.0, eos_token_id=127, bos_token_id=127),
         form=4, generation={"bos_token_id": 127, "do_sample": False, "eos_token_id": 127, "max_new_tokens": 2048},
         wrong={"norm_topk_prob": True, "rope_theta": 1e4, "num_experts_per_tok": 3}),
    Case("moe-60", 6, moe(2, 36, 2, 2, 60, 4, 7, 26, 101, 1e6, eos_token_id=100),
         form=4, wrong={"norm_topk_prob": True, "rope_theta": 1e4, "num_experts_per_tok": 5}),
    # Fewer routed rows than experts, and fewer tokens than a tile has rows.
    Case("moe-60-short", 1, moe(2, 40, 4, 2, 60, 6, 8, 24, 127, 1e4, norm_topk_prob=True, eos_token_id=[5, 6]),
         prompt=9, wrong={"norm_topk_prob": False, "num_experts_per_tok": 5}),
    Case("moe-renormalised", 9, moe(3, 48, 3, 1, 5, 2, 23, 31, 97, 1e4, norm_topk_prob=True, qkv_bias=False),
         wrong={"norm_topk_prob": False, "rope_theta": 1e6}),
    # Small embeddings, so that the epsilon of the first norm changes the logits.
    Case("moe-top-1", 7, moe(2, 40, 4, 4, 7, 1, 17, 24, 111, 1e4, rms_norm_eps=1e-5, eos_token_id=None),
         dtype="float32", embedding=0.01,
         wrong={"norm_topk_prob": True, "rms_norm_eps": 1e-6, "num_experts_per_tok": 2}),
    Case("moe-sparse-step-2", 3, moe(4, 40, 5, 1, 6, 3, 24, 40, 131, 10000, decoder_sparse_step=2, eos_token_id=[0, 130]),
         form=4, generation={"do_sample": True, "eos_token_id": [130, 129], "temperature": 0.7, "top_k": 20,
                             "top_p": 0.8, "repetition_penalty": 1.05, "pad_token_id": 129},
         wrong={"norm_topk_prob": True, "num_experts_per_tok": 2}),
    Case("moe-mlp-only-layers", 17, moe(5, 40, 2, 2, 5, 2, 16, 24, 119, 1e4, mlp_only_layers=[0, 3], norm_topk_prob=True),
         dtype="float16", wrong={"norm_topk_prob": False}),
    Case("moe-fused", 11, moe(2, 48, 6, 2, 12, 3, 20, 32, 320, 1e6, eos_token_id=319),
         layout="fused", form=4, wrong={"norm_topk_prob": True, "rope_theta": 1e4}),
    Case("moe-sharded", 13, moe(3, 48, 3, 3, 6, 2, 24, 40, 128, 1e6, eos_token_id=[126, 127], qkv_bias=False),
         layout="sharded", wrong={"norm_topk_prob": True, "rope_theta": 1e4}),
    # The width is odd and no multiple of the number of heads. config.json gives head_dim; attention is 40 wide.
    Case("moe-head-dim", 6, moe(2, 45, 4, 2, 7, 3, 23, 33, 103, 1e4, head_dim=10, tie_word_embeddings=True),
         embedding=0.3, wrong={"norm_topk_prob": True, "rope_theta": 1e6}),
    # Several blocks of 64 keys.
    Case("moe-long", 9, moe(2, 40, 4, 2, 9, 2, 17, 30, 113, 1e4, eos_token_id=112), prompt=150,
         wrong={"norm_topk_prob": True, "rope_theta": 1e6}),
    Case("dense-tied", 28, dense(3, 54, 3, 3, 70, 257, 1e6, tie_word_embeddings=True, rms_norm_eps=1e-5, eos_token_id=256),
         form=4, embedding=0.3, wrong={"rope_theta": 1e4}),
    Case("dense-gqa", 3, dense(2, 44, 6, 2, 57, 125, 1e4, eos_token_id=[1, 2], head_dim=16),
         dtype="float32", wrong={"rope_theta": 1e6}),
    # The shape of Qwen3-30B-A3B's config.json: heads are together wider than hidden.
    Case("qwen3-moe-published", 2, shape("qwen3_moe", 2, 32, 4, 2, 101, 1e6, **experts(8, 3, 12), head_dim=16,
                                         norm_topk_prob=True, mlp_only_layers=[], decoder_sparse_step=1,
                                         attention_bias=False, eos_token_id=100),
         form=4, generation={"do_sample": True, "eos_token_id": [100, 98], "temperature": 0.6, "top_k": 20, "top_p": 0.95},
         wrong={"norm_topk_prob": False, "rope_theta": 1e4, "num_experts_per_tok": 2}),
    Case("qwen3-moe-fused", 18, shape("qwen3_moe", 3, 40, 2, 1, 97, 1e4, **experts(6, 2, 16), head_dim=10,
                                     mlp_only_layers=[1], tie_word_embeddings=True),
         layout="fused", embedding=0.3, wrong={"norm_topk_prob": True, "rope_theta": 1e6}),
    # No head_dim: hidden_size says it.
    Case("qwen3-moe-sparse-step-2", 8, shape("qwen3_moe", 2, 36, 3, 3, 90, 1e4, **experts(7, 2, 11),
                                             decoder_sparse_step=2, rms_norm_eps=1e-5),
         dtype="float32", embedding=0.01, wrong={"norm_topk_prob": True, "rms_norm_eps": 1e-6}),
    Case("qwen3-moe-long", 19, shape("qwen3_moe", 2, 32, 4, 1, 96, 1e4, **experts(10, 4, 9), head_dim=14,
                                    norm_topk_prob=True),
         layout="sharded", prompt=150, wrong={"norm_topk_prob": False, "rope_theta": 1e6}),
    # The shape of Qwen3-0.6B's config.json.
    Case("qwen3-published", 3, shape("qwen3", 2, 32, 4, 2, 103, 1e6, intermediate_size=52, head_dim=16,
                                     tie_word_embeddings=True, attention_bias=False, eos_token_id=102),
         form=4, embedding=0.3, generation={"do_sample": True, "eos_token_id": [102, 100], "temperature": 0.6,
                                            "top_k": 20, "top_p": 0.95},
         wrong={"rope_theta": 1e4}),
    # No head_dim in config.json, so each of the heads is 128 wide.
    Case("qwen3-head-dim", 7, shape("qwen3", 2, 24, 2, 1, 80, 1e4, intermediate_size=33),
         form=4, wrong={"rope_theta": 1e6}),
    Case("qwen3-half", 2, shape("qwen3", 3, 42, 3, 3, 110, 1e4, intermediate_size=40, head_dim=14),
         dtype="float16", layout="sharded", wrong={"rope_theta": 1e6}),
    Case("qwen3-eps", 6, shape("qwen3", 2, 40, 5, 1, 100, 1e4, intermediate_size=47, head_dim=8, rms_norm_eps=1e-5),
         dtype="float32", embedding=0.01, wrong={"rms_norm_eps": 1e-6}),
    # The shape of Mixtral-8x7B's config.json.
    Case("mixtral-published", 9, shape("mixtral", 2, 32, 4, 2, 100, 1e6, **wide_experts("num_local_experts", 8, 2, 20),
                                       bos_token_id=1, eos_token_id=2, sliding_window=None, rms_norm_eps=1e-5),
         form=4, wrong={"rope_theta": 1e4, "num_experts_per_tok": 3}),
    Case("mixtral-head-dim", 4, shape("mixtral", 2, 45, 4, 2, 103, 1e4, **wide_experts("num_local_experts", 5, 3, 23),
                                      head_dim=10, tie_word_embeddings=True, sliding_window=512),
         embedding=0.3, wrong={"num_experts_per_tok": 2}),
    # Neither theta, nor how many experts a token has, is in config.json.
    Case("mixtral-defaults", 12, shape("mixtral", 3, 32, 4, 1, 96, None, num_local_experts=6, intermediate_size=14),
         form=4, dtype="float32", layout="sharded", wrong={"rope_theta": 1e4, "num_experts_per_tok": 1}),
    Case("mixtral-long", 20, shape("mixtral", 2, 40, 4, 4, 90, 1e4, **wide_experts("num_local_experts", 4, 1, 20),
                                  rms_norm_eps=1e-4),
         embedding=0.01, prompt=150, wrong={"rope_theta": 1e6, "rms_norm_eps": 1e-5}),
    # The shape of OLMoE-1B-7B's config.json.
    Case("olmoe-published", 2, shape("olmoe", 2, 32, 4, 4, 100, 1e4, **wide_experts("num_experts", 12, 4, 12),
                                     norm_topk_prob=False, clip_qkv=None, eos_token_id=99, rms_norm_eps=1e-5),
         form=4, wrong={"norm_topk_prob": True, "num_experts_per_tok": 3}),
    Case("olmoe-gqa", 2, shape("olmoe", 2, 48, 6, 2, 96, 1e4, **wide_experts("num_experts", 5, 2, 20),
                               norm_topk_prob=True, tie_word_embeddings=True),
         layout="sharded", embedding=0.3, wrong={"norm_topk_prob": False, "rope_theta": 1e6}),
    # No num_key_value_heads: as many as heads.
    Case("olmoe-eps", 10, shape("olmoe", 3, 40, 2, None, 97, 1e4, **wide_experts("num_experts", 6, 2, 14),
                               rms_norm_eps=1e-4),
         dtype="float32", embedding=0.01, wrong={"rms_norm_eps": 1e-5, "norm_topk_prob": True}),
    Case("olmoe-long", 7, shape("olmoe", 2, 36, 3, 3, 90, 1e6, **wide_experts("num_experts", 9, 3, 10)),
         layout="fused", prompt=150, wrong={"norm_topk_prob": True, "rope_theta": 1e4}),
    # Scaled positions; prompt and greedy tokens go beyond the length of training.
    Case("yarn", 2, shape("qwen3_moe", 2, 32, 4, 2, 100, 1e6, **experts(6, 2, 12), head_dim=16,
                                    norm_topk_prob=True, max_position_embeddings=160,
                                    rope_scaling={"rope_type": "yarn", "factor": 4.0, "beta_fast": 2.0,
                                                  "original_max_position_embeddings": 40}),
         form=4, wrong={"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    Case("yarn-mscale", 46, shape("qwen2", 2, 40, 2, 1, 90, 1e4, intermediate_size=44, max_position_embeddings=256,
                                 rope_scaling={"rope_type": "yarn", "factor": 8.0, "beta_fast": 4.0, "beta_slow": 0.5,
                                               "mscale": 0.7, "mscale_all_dim": 0.2, "truncate": False,
                                               "original_max_position_embeddings": 32}),
         wrong={"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0,
                                    "original_max_position_embeddings": 32}}),
    Case("linear", 28, shape("olmoe", 2, 32, 2, 2, 90, 1e4, **wide_experts("num_experts", 5, 2, 14),
                            max_position_embeddings=128, rope_scaling={"type": "linear", "factor": 2.5}),
         form=4, wrong={"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}),
    Case("dynamic", 1, shape("qwen2", 2, 32, 2, 1, 90, 1e4, intermediate_size=44, max_position_embeddings=64,
                             rope_scaling={"rope_type": "dynamic", "factor": 4.0})),
    # The prompt is longer than the length of training, so its own length decides how positions are scaled.
    Case("dynamic-long", 1, shape("mixtral", 2, 32, 4, 2, 90, 1e4, **wide_experts("num_local_experts", 5, 2, 14),
                                  head_dim=8, max_position_embeddings=64,
                                  rope_scaling={"rope_type": "dynamic", "factor": 2.0}),
         prompt=110, wrong={"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}),
]  # fmt: skip
