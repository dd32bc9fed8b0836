#!/usr/bin/env python3
"""vLLM's CPU build, bf16; --how compiled (its default) or eager.

It tells no times of its own, so a prompt's is that of a call for one token, and that of the new
tokens is what a call for all of them takes longer."""
import os
import sys

import work


def preload():
    """Starts the script again with the OpenMP and the allocator that vLLM advises for the CPU, where
    they are: intel-openmp puts the one into the environment, Debian's libtcmalloc-minimal4 the other."""
    wanted = [os.path.join(sys.prefix, "lib", "libiomp5.so"),
              "/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4"]
    found = [path for path in wanted if os.path.exists(path)]
    if found and "LD_PRELOAD" not in os.environ:
        environment = {**os.environ, "LD_PRELOAD": ":".join(found)}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)


preload()
o = work.arguments(__doc__)
# The engine reads these when it is imported.
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", f"0-{o.threads - 1}")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

import vllm  # noqa: E402
from vllm.entrypoints.llm import LLM  # noqa: E402
from vllm.sampling_params import SamplingParams  # noqa: E402


def check_switches():
    """A switch that this version does not know would measure the same thing twice."""
    name = "VLLM_CPU_SGL_KERNEL"
    if name in os.environ and name not in vllm.envs.environment_variables:
        raise SystemExit(f"error: vllm {vllm.__version__} has no {name}; it chooses by itself")


def open_model():
    return LLM(model=o.model, skip_tokenizer_init=True, dtype="bfloat16",
               enforce_eager=o.how == "eager", enable_prefix_caching=False,
               max_model_len=max(o.prompt, o.batch_prompt) + o.new + 1,
               max_num_batched_tokens=max(o.prompt, 2048), max_num_seqs=max(o.batches))


def main():
    check_switches()
    llm = open_model()
    vocabulary = llm.llm_engine.model_config.get_vocab_size()

    def generate(prompts, new):
        params = SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, detokenize=False)
        return work.seconds(lambda: llm.generate(prompts, params, use_tqdm=False))[0]

    def run(batch, length, new):
        prompts = [{"prompt_token_ids": work.tokens(s, length, vocabulary)} for s in range(batch)]
        prefill = generate(prompts, 1)
        return prefill, generate(prompts, 1 + new) - prefill

    work.answer(f"vllm {vllm.__version__}", work.measure(o, run))


if __name__ == "__main__":
    main()
