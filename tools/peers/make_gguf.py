#!/usr/bin/env python3
"""Writes a bf16 qwen2_moe checkpoint as a GGUF file that llama.cpp and its forks read.

tools/peers/make_gguf.py CHECKPOINT_DIRECTORY OUT.gguf [q8_0|q4_0]      needs the package gguf
The vocabulary is a dummy: llama.cpp wants one, and measuring speed needs no text. One tensor at a
time is in memory.
"""
import json
import mmap
import struct
import sys
from pathlib import Path

import gguf
import numpy

BF16, F32 = gguf.GGMLQuantizationType.BF16, gguf.GGMLQuantizationType.F32
TYPES = {"bf16": (BF16, gguf.LlamaFileType.MOSTLY_BF16),
         "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
         "q4_0": (gguf.GGMLQuantizationType.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0)}
BYTES = [f"<0x{b:02X}>" for b in range(256)]
# Of a layer: the name in GGUF, and in the checkpoint.
LAYER = [
    ("attn_norm.weight", "input_layernorm.weight"),
    ("attn_q.weight", "self_attn.q_proj.weight"), ("attn_q.bias", "self_attn.q_proj.bias"),
    ("attn_k.weight", "self_attn.k_proj.weight"), ("attn_k.bias", "self_attn.k_proj.bias"),
    ("attn_v.weight", "self_attn.v_proj.weight"), ("attn_v.bias", "self_attn.v_proj.bias"),
    ("attn_output.weight", "self_attn.o_proj.weight"),
    ("ffn_norm.weight", "post_attention_layernorm.weight"),
    ("ffn_gate_inp.weight", "mlp.gate.weight"),
    ("ffn_gate_inp_shexp.weight", "mlp.shared_expert_gate.weight"),
    ("ffn_gate_shexp.weight", "mlp.shared_expert.gate_proj.weight"),
    ("ffn_up_shexp.weight", "mlp.shared_expert.up_proj.weight"),
    ("ffn_down_shexp.weight", "mlp.shared_expert.down_proj.weight"),
]
# llama.cpp reads these as f32, and every vector.
IN_F32 = ("ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight")


class Checkpoint:
    """The tensors of a directory's safetensors files, as arrays of 16-bit words."""

    def __init__(self, directory):
        self.at = {}
        for path in sorted(Path(directory).glob("*.safetensors")):
            self.add(path)

    def add(self, path):
        with open(path, "rb") as f:
            data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        size = struct.unpack("<Q", data[:8])[0]
        for name, t in json.loads(data[8:8 + size]).items():
            if name != "__metadata__":
                self.at[name] = (path, data, 8 + size + t["data_offsets"][0], t)

    def shape(self, name):
        return self.at[name][3]["shape"]

    def words(self, name):
        path, data, offset, t = self.at[name]
        if t["dtype"] != "BF16":
            sys.exit(f"make_gguf: {path}: {name}: expected BF16, found {t['dtype']}")
        count = int(numpy.prod(t["shape"]))
        return numpy.frombuffer(data, numpy.uint16, count, offset).reshape(t["shape"])


def read_config(directory):
    c = json.loads((Path(directory) / "config.json").read_text())
    if c["model_type"] != "qwen2_moe":
        sys.exit(f"make_gguf: {directory}: expected model_type qwen2_moe, found {c['model_type']}")
    if c.get("decoder_sparse_step", 1) != 1 or c.get("mlp_only_layers"):
        sys.exit(f"make_gguf: {directory}: expected experts in every layer")
    return c


def tensors(c):
    """[(name in GGUF, names in the checkpoint that are stacked)]"""
    found = [("token_embd.weight", ["model.embed_tokens.weight"]),
             ("output_norm.weight", ["model.norm.weight"])]
    if not c.get("tie_word_embeddings"):
        found.append(("output.weight", ["lm_head.weight"]))
    for layer in range(c["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        found += [(f"blk.{layer}.{to}", [at + name]) for to, name in LAYER]
        for part in ("gate", "up", "down"):
            found.append((f"blk.{layer}.ffn_{part}_exps.weight",
                          [f"{at}mlp.experts.{e}.{part}_proj.weight"
                           for e in range(c["num_experts"])]))
    return found


def final_shape(checkpoint, to, names):
    """Its dimensions; llama.cpp has the shared expert's gate as a vector."""
    shape = checkpoint.shape(names[0])
    if to.endswith("ffn_gate_inp_shexp.weight"):
        return shape[-1:]
    return shape if len(names) == 1 else [len(names), *shape]


def is_f32(shape, to):
    return len(shape) == 1 or to.endswith(IN_F32)


def as_f32(words):
    return (words.astype(numpy.uint32) << 16).view(numpy.float32)


def values(checkpoint, to, names, kind):
    """The array that is written."""
    shape = final_shape(checkpoint, to, names)
    stacked = numpy.stack([checkpoint.words(name) for name in names]).reshape(shape)
    if is_f32(shape, to):
        return as_f32(stacked)
    if kind == BF16:
        return stacked
    if len(shape) == 3:  # an expert at a time, which needs less memory
        return numpy.stack([gguf.quantize(as_f32(one), kind) for one in stacked])
    return gguf.quantize(as_f32(stacked), kind)


def add_settings(w, c, file_type):
    w.add_block_count(c["num_hidden_layers"])
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(c["num_key_value_heads"])
    w.add_rope_freq_base(c["rope_theta"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_expert_count(c["num_experts"])
    w.add_expert_used_count(c["num_experts_per_tok"])
    w.add_expert_feed_forward_length(c["moe_intermediate_size"])
    w.add_expert_shared_feed_forward_length(c["shared_expert_intermediate_size"])
    w.add_vocab_size(c["vocab_size"])
    w.add_file_type(file_type)


def add_vocabulary(w, size):
    kind = gguf.TokenType
    special = ["<unk>", "<s>", "</s>"]
    known = special + BYTES
    w.add_tokenizer_model("llama")
    w.add_token_list(known + [f"t{i}" for i in range(len(known), size)])
    w.add_token_scores([0.0] * len(known) + [-float(i) for i in range(len(known), size)])
    w.add_token_types([kind.UNKNOWN, kind.CONTROL, kind.CONTROL] + [kind.BYTE] * 256 +
                      [kind.NORMAL] * (size - len(known)))
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)


def add_infos(w, checkpoint, c, kind):
    for to, names in tensors(c):
        shape = final_shape(checkpoint, to, names)
        own = F32 if is_f32(shape, to) else kind
        if own not in (F32, BF16):
            shape = gguf.quant_shape_to_byte_shape(shape, own)
        dtype = numpy.dtype({F32: numpy.float32, BF16: numpy.uint16}.get(own, numpy.uint8))
        w.add_tensor_info(to, shape, dtype, int(numpy.prod(shape)) * dtype.itemsize, raw_dtype=own)


def main():
    if len(sys.argv) not in (3, 4) or sys.argv[3:] and sys.argv[3] not in TYPES:
        sys.exit(__doc__)
    directory, out = sys.argv[1:3]
    kind, file_type = TYPES[sys.argv[3] if sys.argv[3:] else "bf16"]
    c, checkpoint = read_config(directory), Checkpoint(directory)
    w = gguf.GGUFWriter(out, "qwen2moe")
    add_settings(w, c, file_type)
    add_vocabulary(w, c["vocab_size"])
    add_infos(w, checkpoint, c, kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    for to, names in tensors(c):
        w.write_tensor_data(values(checkpoint, to, names, kind))
    w.close()


if __name__ == "__main__":
    main()
