#!/usr/bin/env bash
# epmoe inspect: the published numbers of known models from config.json alone, and who would hold what
# is what the ranks of a run say they hold.   tests/program/inspect.sh build/release/epmoe
set -euo pipefail
epmoe=$(realpath "$1")
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# write_config NAME 'more keys': what the published configurations have in common
write_config() {
    mkdir -p "$work/$1"
    echo '{"hidden_act": "silu", "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "vocab_size": 151936,
        "tie_word_embeddings": false, "use_sliding_window": false, "torch_dtype": "bfloat16",' \
        "$2}" >"$work/$1/config.json"
}
moe='"model_type": "qwen2_moe", "architectures": ["Qwen2MoeForCausalLM"], "norm_topk_prob": false,
    "decoder_sparse_step": 1'
write_config Qwen1.5-MoE-A2.7B "$moe"', "hidden_size": 2048, "intermediate_size": 5632,
    "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 16,
    "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632, "num_experts": 60,
    "num_experts_per_tok": 4, "max_position_embeddings": 8192'
write_config Qwen2-57B-A14B "$moe"', "hidden_size": 3584, "intermediate_size": 18944,
    "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
    "moe_intermediate_size": 2560, "shared_expert_intermediate_size": 20480, "num_experts": 64,
    "num_experts_per_tok": 8, "max_position_embeddings": 131072'
write_config Qwen1.5-7B '"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 32768'

cat >"$work/check.py" <<'PY'
import json, subprocess, sys

epmoe, work = sys.argv[1:]

def inspect(*arguments):
    return json.loads(subprocess.run([epmoe, "inspect", *arguments, "-o", "json"], check=True,
                                     capture_output=True).stdout)

def expect(what, found, expected):
    if found != expected:
        sys.exit(f"inspect: {what}: expected {expected}, found {found}")

def near(what, found, expected):
    if abs(found / expected - 1) > 0.005:
        sys.exit(f"inspect: {what}: expected about {expected}, found {found}")

# total; active as published, read for a token; KiB of KV a token in bf16
published = {
    "Qwen1.5-MoE-A2.7B": (14315784192, 2.69e9, 2.378e9, 192),
    "Qwen2-57B-A14B": (57408658944, 14.25e9, 13.7e9, 56),
    "Qwen1.5-7B": (7721324544, 7.721e9, 7.1e9, 512),
}
for name, (total, active, read, kv) in published.items():
    i = inspect(f"{work}/{name}", "--ranks", "5")
    expect("name", i["model"], name)
    expect(name + " weights", i["weights"]["here"], False)
    expect(name, i["parameters"]["total"], total)
    near(name + " active", i["parameters"]["active"], active)
    near(name + " read", i["parameters"]["read_per_token"], read)
    expect(name + " bf16", i["weight_bytes"]["bf16"], 2 * total)
    expect(name + " f32", i["weight_bytes"]["f32"], 4 * total)
    expect(name + " KV", i["kv_bytes_per_token"]["bf16"], kv << 10)
    plan = i["plan"]
    expect(name + " ranks", len(plan["ranks"]), 5)
    expect(name + " sum", sum(r["bytes"] for r in plan["ranks"]), plan["bytes"])
    expect(name + " KV cache", plan["other_bytes"]["kv_cache"], (kv << 10) * i["context"])
    # bf16 in panels takes what the file takes; norms and biases are f32 in memory
    near(name + " in memory", plan["bytes"] - plan["other_bytes"]["kv_cache"], 2 * total)

# other families, by the shapes that synth makes
shapes = {
    "qwen3-30b-a3b": (30532122624, 3.35e9, 96, "head"),
    "olmoe-1b-7b": (6919161856, 1.28e9, 128, "all"),
    "mixtral-8x7b": (46702792704, 12.9e9, 128, "none"),
}
for name, (total, active, kv, norm) in shapes.items():
    i = inspect(f"synth:{name}", "--ranks", "5")
    expect(name, i["parameters"]["total"], total)
    near(name + " active", i["parameters"]["active"], active)
    expect(name + " KV", i["kv_bytes_per_token"]["bf16"], kv << 10)
    expect(name + " norms", i["qk_norm"], norm)
    expect(name + " shared", i["shared_width"], 0)
    expect(name + " sum", sum(r["bytes"] for r in i["plan"]["ranks"]), i["plan"]["bytes"])
for name, kind, context in (("yarn", "yarn", 160), ("dynamic", "dynamic", 64), ("moe-60", "default", 512)):
    i = inspect(f"tests/golden/models/{name}")
    expect(name + " positions", (i["rope_type"], i["context"]), (kind, context))

moe = f"{work}/Qwen1.5-MoE-A2.7B"
expert = 3 * 2048 * 1408 * 2
for ranks, per_layer in ((1, [60]), (5, [0, 15, 15, 15, 15]), (8, [0, 9, 9, 9, 9, 8, 8, 8])):
    plan = inspect(moe, "--ranks", str(ranks), "--placement", "even")["plan"]
    expect("experts", [r["most_of_a_layer"] for r in plan["ranks"]], per_layer)
    expect("bytes", [r["expert_bytes"] for r in plan["ranks"]], [24 * n * expert for n in per_layer])
plan = inspect(moe, "--ranks", "8", "--placement", "round-robin", "--home", "7")["plan"]
expect("with --home", [r["experts"] // 24 for r in plan["ranks"]], [7, 8, 8, 8, 8, 7, 7, 7])
expect("-c", inspect(moe, "-c", "1000")["plan"]["other_bytes"]["kv_cache"], 1024 * (192 << 10))

# what fits a GPU: all but routed experts, then as many of each layer as there is room for
def check_gpu(name, memory, context, home, here, there):
    i = inspect(f"{work}/{name}", "--gpu-memory", memory, "-c", str(context))
    plan, gpu = i["plan"], i["gpu"]
    ranks = plan["ranks"]
    expert = 3 * i["hidden"] * i["expert_width"] * 2
    expect(name + " at home", ranks[0]["most_of_a_layer"], home)
    expect(name + " everywhere", ranks[0]["fewest_of_a_layer"], home)
    expect(name + " fits", gpu["fits"], True)
    expect(name + " on the GPU", gpu["bytes"], ranks[0]["bytes"] + (1 << 30))
    if home < i["experts"]:
        expect(name + " ranks", len(ranks), 2)
        more = gpu["bytes"] + i["layers"] * expert
        if gpu["bytes"] > gpu["memory_bytes"] or more <= gpu["memory_bytes"]:
            sys.exit(f"inspect: {name}: {home} experts a layer are not the most that fit: {gpu}")
    near(name + " read on the GPU", gpu["token_reads_on_gpu"], here)
    expect(name + " read", round(gpu["token_reads_on_workers"]), there)
    near(name + " read in all", gpu["token_reads_on_gpu"] + gpu["token_reads_on_workers"],
         2 * i["parameters"]["read_per_token"])
    pairs = there / expert
    expect(name + " rows", round(gpu["token_rows_at_most"]), round(2 * pairs * i["hidden"] * 2))

# layers times experts a token from elsewhere times their bytes: 24 * 4 * 14/60 of 17.3 MB, …
small, large = 3 * 2048 * 1408 * 2, 3 * 3584 * 2560 * 2
check_gpu("Qwen1.5-MoE-A2.7B", "24G", 8192, 46, 4.756e9 - 24 * 4 * 14 / 60 * small,
          round(24 * 4 * 14 / 60 * small))
check_gpu("Qwen1.5-MoE-A2.7B", "40G", 8192, 60, 4.756e9, 0)
check_gpu("Qwen2-57B-A14B", "24G", 8192, 5, 27.4e9 - 28 * 8 * 59 / 64 * large,
          round(28 * 8 * 59 / 64 * large))
expect("too small", inspect(f"{work}/Qwen2-57B-A14B", "--gpu-memory", "12G")["gpu"]["fits"], False)
expect("as told", inspect(moe, "--gpu-memory", "24G", "--ranks", "3", "--home", "60")["gpu"]["fits"],
       False)
# of 45 experts a layer on the GPU 15 are further copies: they take memory, but a token does not read them
with open(f"{work}/copies.json", "w") as f:
    json.dump({"ranks": 2, "experts": [[0, 1]] * 10 + [0] * 20 + [[1, 0]] * 15 + [1] * 15}, f)
i = inspect(moe, "--gpu-memory", "24G", "--ranks", "2", "--placement", f"{work}/copies.json", "-c", "8192")
expect("copies in memory", i["plan"]["ranks"][0]["expert_bytes"], 24 * 45 * small)
expect("copies on the GPU", i["gpu"]["bytes"], i["plan"]["ranks"][0]["bytes"] + (1 << 30))
expect("copies read elsewhere", i["gpu"]["token_reads_on_workers"], 24 * 4 * 30 // 60 * small)
near("copies read in all", i["gpu"]["token_reads_on_gpu"] + i["gpu"]["token_reads_on_workers"],
     2 * i["parameters"]["read_per_token"])
if subprocess.run([epmoe, "inspect", moe, "--gpu-memory", "24X"], capture_output=True).returncode != 2:
    sys.exit("inspect: --gpu-memory 24X was taken")

# how long steps are expected to take, of ranks with the speeds of a file
def speeds(ranks):
    with open(f"{work}/speeds.json", "w") as f:
        json.dump(ranks, f)
    return ["--ranks", str(len(ranks)), "--speeds", f"{work}/speeds.json"]

alike = {"flops": 1e11, "read_bytes_per_s": 1e10}

def check_expected(name, plan, phase):
    e = plan["expected"]
    step = e[phase]
    if not step["coordinator_s"] <= step["least_s"] <= step["step_s"] <= step["alone_s"]:
        sys.exit(f"inspect: {name}: {phase}: expected a step between least and alone: {step}")
    # what one rank does alone is what all do together: here nothing is done twice
    near(f"{name}, {phase}: all that ranks do", sum(r[phase + "_busy_s"] for r in e["ranks"]),
         step["alone_s"])
    near("speed-up", step["speed_up"], step["alone_s"] / step["step_s"])
    near("most speed-up", step["speed_up_at_most"], step["alone_s"] / step["least_s"])
    if step["step_s"] < 0.999 * max(r[phase + "_busy_s"] for r in e["ranks"]):
        sys.exit(f"inspect: {name}: {phase}: a rank is busy for longer than the step: {plan}")

for name in published:
    for placement in "balanced", "even":
        i = inspect(f"{work}/{name}", *speeds([alike] * 5), "--placement", placement)
        plan = i["plan"]
        expect(name + " rows", [plan["expected"][p]["rows"] for p in ("prefill", "decode")], [1500, 1])
        expect(name + " outputs", sum(r["outputs"] for r in plan["ranks"]), i["vocabulary"])
        expect(name + " experts", sum(r["experts"] for r in plan["ranks"]),
               i["sparse_layers"] * i["experts"])
        check_expected(name, plan, "prefill")
        check_expected(name, plan, "decode")
        # one token: the weights it reads, and keys and values of 1500 + 40 / 2 tokens
        read = 2 * i["parameters"]["read_per_token"] + 1520 * i["kv_bytes_per_token"]["bf16"]
        near(name + " alone", plan["expected"]["decode"]["alone_s"], read / 1e10)

def shares(*arguments):
    return inspect(moe, *arguments)["plan"]["ranks"]

fast = {"flops": 4e11, "read_bytes_per_s": 4e10}
ranks = shares(*speeds([alike, alike, fast]))
for key in "experts", "outputs", "bytes":
    if not ranks[2][key] > 2 * ranks[1][key]:
        sys.exit(f"inspect: a rank four times as fast has no more {key}: {ranks}")
ranks = shares(*speeds([alike, {**alike, "memory_bytes": 1e9}, alike]))
if not ranks[1]["expert_bytes"] <= 1e9 < ranks[2]["expert_bytes"]:
    sys.exit(f"inspect: a rank has experts beyond its memory: {ranks}")
expected = inspect(moe, *speeds([alike] * 2), "--expect", "100,10,80")["plan"]["expected"]
expect("--expect", [expected[k] for k in ("prompt", "new", "batch")], [100, 10, 80])
expect("--expect: rows", [expected[p]["rows"] for p in ("prefill", "decode")], [100, 80])

# without a file all ranks are what this machine is; one rank alone has nothing to compare
expected = inspect(moe, "--ranks", "3")["plan"]["expected"]
expect("measured", expected["speeds"], "measured")
expect("speeds", len({(r["flops"], r["read_bytes_per_s"]) for r in expected["ranks"]}), 1)
if "expected" in inspect(moe)["plan"] or "expected" in inspect(moe, "--gpu-memory", "24G")["plan"]:
    sys.exit("inspect: times are expected of one rank, or of a GPU that is not here")

def refused(code, says, *arguments):
    run = subprocess.run([epmoe, "inspect", moe, *arguments], capture_output=True, text=True)
    if run.returncode != code or says not in run.stderr or run.stderr.count("\n") > 2:
        sys.exit(f"inspect: {arguments}: expected exit code {code} and {says!r}, found {run}")

for ranks, says in (
        ([alike, {**alike, "flops": 0}], "[1].flops: expected a number from 1 to 1e+18, found 0"),
        ([alike, {"flops": 1e11}], "[1].read_bytes_per_s: expected a number from 1"),
        ([{**alike, "flops": "fast"}, alike], '[0].flops: expected a number from 1 to 1e+18, found "fast"'),
        ([alike, {**alike, "memory_bytes": -1}], "[1].memory_bytes: expected a number from 1"),
        ([alike, {**alike, "memory": 1}], '[1]: expected the keys flops, read_bytes_per_s and'),
        ([alike, 3], "[1]: expected an object with flops and read_bytes_per_s, found 3")):
    refused(3, says, *speeds(ranks))
refused(3, "expected an object for each of 2 ranks, found 3", *speeds([alike] * 3)[2:], "--ranks", "2")
with open(f"{work}/speeds.json", "w") as f:
    json.dump({"ranks": []}, f)
refused(3, "expected a list of 2 ranks, found an object", "--ranks", "2", "--speeds",
        f"{work}/speeds.json")
refused(3, "expected a file, found no such file", "--ranks", "2", "--speeds", f"{work}/none.json")
refused(2, "--expect: expected PROMPT,NEW", "--ranks", "2", "--expect", "100")

# an index without its files: no weights either
with open(f"{moe}/model.safetensors.index.json", "w") as f:
    json.dump({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}, f)
expect("missing", inspect(moe)["weights"]["missing_files"], 2)

# with weights, what the ranks of a run say with -v is what inspect said; a placement written by
# --emit is that placement again
for name in "moe-60", "moe-mlp-only-layers", "moe-sharded":
    model = f"tests/golden/models/{name}"
    arguments = ["--ranks", "5", "--placement", "round-robin", "--home", "1"]
    i = inspect(model, *arguments, "--emit", f"{work}/plan.json")
    expect("here", i["weights"]["here"], True)
    again = inspect(model, "--ranks", "5", "--placement", f"{work}/plan.json")
    expect("emitted", again["plan"]["ranks"], i["plan"]["ranks"])
    run = subprocess.run([epmoe, "logits", "-m", model, "--tokens", "1", "-o", f"{work}/out", "-v",
                          "--ranks", "5", "--placement", f"{work}/plan.json"],
                         check=True, capture_output=True, text=True).stderr
    for rank in i["plan"]["ranks"]:
        says = [s for s in run.splitlines() if f"rank {rank['rank']} on " in s]
        if len(says) != 1 or f" {rank['experts']} experts, " not in says[0] or "B/s" not in says[0]:
            sys.exit(f"inspect: {name}: rank {rank['rank']} holds {rank['experts']}: {run}")
PY
python3 "$work/check.py" "$epmoe" "$work"

# for people
"$epmoe" inspect "$work/Qwen1.5-MoE-A2.7B" --ranks 8 --placement even >"$work/text"
for words in '14.32 billion' '2.69 billion a token' '2.38 billion a token' '28.6 GB' '192 KiB' \
    '60 a layer, top 4' 'not here' 'placement even'; do
    grep -qF "$words" "$work/text" || {
        echo "inspect: expected \"$words\" in: $(cat "$work/text")"
        exit 1
    }
done
"$epmoe" inspect "$work/Qwen1.5-MoE-A2.7B" --ranks 2 -t 1 >"$work/text"
for words in 'for prompts of 1500 tokens and 40 new ones, 1 at a time' 'every rank taken to be as fast' \
    "this machine's processor with 1 thread: " 'prefill: a step of 1500 rows ' \
    'decode: a step of 1 row ' ' times as fast, at most '; do
    grep -qF "$words" "$work/text" || {
        echo "inspect: expected \"$words\" in: $(cat "$work/text")"
        exit 1
    }
done
"$epmoe" inspect "$work/Qwen1.5-MoE-A2.7B" --gpu-memory 24G -c 8192 | tail -5 >"$work/text"
for words in 'GPU of 25.8 GB: fits, ' '--worker-device cpu --ranks 2 --placement even --home 46' 'a token reads '; do
    grep -qF -- "$words" "$work/text" || {
        echo "inspect: expected \"$words\" in: $(cat "$work/text")"
        exit 1
    }
done
"$epmoe" inspect "$work/Qwen1.5-MoE-A2.7B" --gpu-memory 40G -c 8192 --ranks 2 --placement "$work/copies.json" |
    grep -qF -- "--ranks 2 --placement $work/copies.json …" || {
    echo "inspect: expected a command with the placement's file"
    exit 1
}
"$epmoe" inspect -m tests/golden/models/yarn | grep -qE 'context: +160 tokens, positions scaled \(yarn, 4\)$'
"$epmoe" inspect -m tests/golden/models/olmoe-gqa | grep -qE 'keys and values; q and k normed$'
"$epmoe" inspect -m tests/golden/models/moe-60 | grep -qE 'weights: +bf16, .* in 1 file$'
"$epmoe" inspect -m tests/golden/models/qwen3-moe-fp8 | grep -qE 'weights: +f32 and bf16 and fp8, .* in 1 file$'
echo "inspect: as published"
