#!/usr/bin/env python3
"""Lists the keys that transformers knows in a model's JSON files, for tests/model/test_known_keys.c.

usage: list_known_keys.py OUT.json

config: the fields of the families' config classes, and the further arguments of PreTrainedConfig.
generation: the attributes of GenerationConfig. tokenizer: the keys that the source of the tokenizers'
base classes reads from the file, and the parameters of Qwen2Tokenizer.
"""

import inspect
import json
import re
import sys

import tokenizers
import transformers
from transformers import configuration_utils
from transformers import tokenization_utils_base as base
from transformers import tokenization_utils_tokenizers as backend
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

FAMILIES = (
    transformers.Qwen2Config, transformers.Qwen2MoeConfig, transformers.Qwen3Config,
    transformers.Qwen3MoeConfig, transformers.OlmoeConfig, transformers.MixtralConfig,
)  # fmt: skip
TAKES = (
    r'kwargs\.(?:pop|get|setdefault)\(\s*"(\w+)"',
    r'kwargs\["(\w+)"',
    r'"(\w+)" (?:not )?in (?:init_)?kwargs',
)


def taken(module):
    source = inspect.getsource(module)
    return {key for pattern in TAKES for key in re.findall(pattern, source)}


def of_config():
    keys = taken(configuration_utils)
    for kind in FAMILIES:
        keys |= set(kind.__dataclass_fields__) | set(kind().to_dict()) | set(kind().__dict__)
    return keys


def of_tokenizer():
    keys = taken(base) | taken(backend) | set(inspect.signature(Qwen2Tokenizer.__init__).parameters)
    return keys | set(base.PreTrainedTokenizerBase.SPECIAL_TOKENS_ATTRIBUTES) - {"self", "kwargs"}


def main():
    keys = {
        "made_with": f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}",
        "config": sorted(of_config()),
        "generation": sorted(transformers.GenerationConfig().__dict__),
        "tokenizer": sorted(of_tokenizer() - {"self", "kwargs"}),
    }
    with open(sys.argv[1], "w") as out:
        json.dump(keys, out, indent=1)
        out.write("\n")


main()
