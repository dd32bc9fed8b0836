#include "model/known_keys.h"

#include <stdlib.h>
#include <string.h>

/* `neutral`: of a refused key the value, beside null, that changes nothing; NULL: none. */
struct known {
    const char *name;
    enum key_use use;
    const char *neutral;
};

#define HONOURED(name)                                                                             \
    {                                                                                              \
        name, KEY_HONOURED, NULL                                                                   \
    }
#define NO_EFFECT(name)                                                                            \
    {                                                                                              \
        name, KEY_WITHOUT_EFFECT, NULL                                                             \
    }
#define REFUSED(name, neutral)                                                                     \
    {                                                                                              \
        name, KEY_REFUSED, neutral                                                                 \
    }
#define END                                                                                        \
    {                                                                                              \
        NULL, KEY_UNKNOWN, NULL                                                                    \
    }

/* config.json. Labels, dropout and the loss are of training; plans and implementations say how
 * transformers computes the same. */
static const struct known config[] = {
    HONOURED("architectures"),
    HONOURED("decoder_sparse_step"),
    HONOURED("dtype"),
    HONOURED("eos_token_id"),
    HONOURED("head_dim"),
    HONOURED("hidden_act"),
    HONOURED("hidden_size"),
    HONOURED("intermediate_size"),
    HONOURED("layer_types"),
    HONOURED("max_position_embeddings"),
    HONOURED("max_window_layers"),
    HONOURED("mlp_only_layers"),
    HONOURED("model_type"),
    HONOURED("moe_intermediate_size"),
    HONOURED("norm_topk_prob"),
    HONOURED("num_attention_heads"),
    HONOURED("num_experts"),
    HONOURED("num_experts_per_tok"),
    HONOURED("num_hidden_layers"),
    HONOURED("num_key_value_heads"),
    HONOURED("num_local_experts"),
    HONOURED("original_max_position_embeddings"),
    HONOURED("partial_rotary_factor"),
    HONOURED("qkv_bias"),
    HONOURED("quantization_config"),
    HONOURED("rms_norm_eps"),
    HONOURED("rope_parameters"),
    HONOURED("rope_scaling"),
    HONOURED("rope_theta"),
    HONOURED("shared_expert_intermediate_size"),
    HONOURED("sliding_window"),
    HONOURED("tie_word_embeddings"),
    HONOURED("torch_dtype"),
    HONOURED("use_sliding_window"),
    HONOURED("vocab_size"),
    NO_EFFECT("_attn_implementation_internal"),
    NO_EFFECT("_auto_class"),
    NO_EFFECT("_commit_hash"),
    NO_EFFECT("_configuration_file"),
    NO_EFFECT("_experts_implementation_internal"),
    NO_EFFECT("_from_auto"),
    NO_EFFECT("_from_pipeline"),
    NO_EFFECT("_name_or_path"),
    NO_EFFECT("_output_attentions"),
    NO_EFFECT("_post_init_done"),
    NO_EFFECT("attention_dropout"),
    NO_EFFECT("attn_implementation"),
    NO_EFFECT("attribute_map"),
    NO_EFFECT("auto_map"),
    NO_EFFECT("base_config_key"),
    NO_EFFECT("base_model_ep_plan"),
    NO_EFFECT("base_model_fsdp_plan"),
    NO_EFFECT("base_model_pp_plan"),
    NO_EFFECT("base_model_tp_plan"),
    NO_EFFECT("bos_token_id"), // no token is put before a prompt
    NO_EFFECT("cache_dir"),
    NO_EFFECT("chunk_size_feed_forward"),
    NO_EFFECT("commit_message"),
    NO_EFFECT("experts_implementation"),
    NO_EFFECT("extra_config_files"),
    NO_EFFECT("extra_files"),
    NO_EFFECT("force_download"),
    NO_EFFECT("gguf_file"),
    NO_EFFECT("id2label"),
    NO_EFFECT("initializer_range"),
    NO_EFFECT("label2id"),
    NO_EFFECT("local_files_only"),
    NO_EFFECT("name_or_path"),
    NO_EFFECT("num_labels"),
    NO_EFFECT("output_attentions"),
    NO_EFFECT("output_hidden_states"),
    NO_EFFECT("output_router_logits"),
    NO_EFFECT("pad_token_id"),
    NO_EFFECT("problem_type"),
    NO_EFFECT("proxies"),
    NO_EFFECT("repo_id"),
    NO_EFFECT("return_dict"),
    NO_EFFECT("return_unused_kwargs"),
    NO_EFFECT("revision"),
    NO_EFFECT("router_aux_loss_coef"),
    NO_EFFECT("router_jitter_noise"),
    NO_EFFECT("sub_configs_defaults"),
    NO_EFFECT("subfolder"),
    NO_EFFECT("tie_last_hidden_states"),
    NO_EFFECT("token"),
    NO_EFFECT("transformers_version"),
    NO_EFFECT("trust_remote_code"),
    NO_EFFECT("use_cache"),
    REFUSED("attention_bias", "false"),
    REFUSED("clip_qkv", NULL),
    REFUSED("compression_config", NULL),
    REFUSED("is_causal", "true"),
    REFUSED("is_encoder_decoder", "false"),
    REFUSED("per_layer_config", NULL),
    END,
};

/* generation_config.json. What speeds up generation, what is kept or returned beside the tokens,
 * and what only beams read has no effect. */
static const struct known generation[] = {
    HONOURED("bad_words_ids"),
    HONOURED("begin_suppress_tokens"),
    HONOURED("cache_implementation"),
    HONOURED("do_sample"),
    HONOURED("eos_token_id"),
    HONOURED("max_length"),
    HONOURED("max_new_tokens"),
    HONOURED("min_length"),
    HONOURED("min_new_tokens"),
    HONOURED("min_p"),
    HONOURED("no_repeat_ngram_size"),
    HONOURED("repetition_penalty"),
    HONOURED("suppress_tokens"),
    HONOURED("temperature"),
    HONOURED("top_k"),
    HONOURED("top_p"),
    HONOURED("typical_p"),
    NO_EFFECT("_from_model_config"),
    NO_EFFECT("assistant_confidence_threshold"),
    NO_EFFECT("assistant_early_exit"),
    NO_EFFECT("assistant_ensemble_weight"),
    NO_EFFECT("assistant_lookbehind"),
    NO_EFFECT("bos_token_id"),
    NO_EFFECT("compile_config"),
    NO_EFFECT("continuous_batching_config"),
    NO_EFFECT("decoder_start_token_id"),
    NO_EFFECT("disable_compile"),
    NO_EFFECT("early_stopping"),
    NO_EFFECT("is_assistant"),
    NO_EFFECT("length_penalty"),
    NO_EFFECT("low_memory"),
    NO_EFFECT("max_cache_len"),
    NO_EFFECT("max_matching_ngram_size"),
    NO_EFFECT("num_assistant_tokens"),
    NO_EFFECT("num_assistant_tokens_schedule"),
    NO_EFFECT("output_attentions"),
    NO_EFFECT("output_hidden_states"),
    NO_EFFECT("output_logits"),
    NO_EFFECT("output_scores"),
    NO_EFFECT("pad_token_id"),
    NO_EFFECT("prefill_chunk_size"),
    NO_EFFECT("prompt_lookup_num_tokens"),
    NO_EFFECT("renormalize_logits"),
    NO_EFFECT("return_dict_in_generate"),
    NO_EFFECT("speculation_type"),
    NO_EFFECT("target_lookbehind"),
    NO_EFFECT("transformers_version"),
    NO_EFFECT("use_cache"),
    NO_EFFECT("use_mtp"),
    REFUSED("cache_config", NULL), // of a quantized cache
    REFUSED("constraints", NULL),
    REFUSED("diversity_penalty", "0"),
    REFUSED("dola_layers", NULL),
    REFUSED("encoder_no_repeat_ngram_size", "0"),
    REFUSED("encoder_repetition_penalty", "1"),
    REFUSED("epsilon_cutoff", "0"),
    REFUSED("eta_cutoff", "0"),
    REFUSED("exponential_decay_length_penalty", NULL),
    REFUSED("force_words_ids", NULL),
    REFUSED("forced_bos_token_id", NULL),
    REFUSED("forced_eos_token_id", NULL),
    REFUSED("guidance_scale", "1"),
    REFUSED("max_time", NULL),
    REFUSED("num_beam_groups", "1"),
    REFUSED("num_beams", "1"),
    REFUSED("num_return_sequences", "1"),
    REFUSED("penalty_alpha", "0"),
    REFUSED("remove_invalid_values", "false"),
    REFUSED("sequence_bias", NULL),
    REFUSED("stop_strings", NULL),
    REFUSED("token_healing", "false"),
    REFUSED("top_h", NULL),
    REFUSED("watermarking_config", NULL),
    END,
};

/* tokenizer_config.json. Lengths and padding are for texts in batches; vocabulary and patterns are
 * those of tokenizer.json; the rest is about files. */
static const struct known tokenizer[] = {
    HONOURED("add_bos_token"),
    HONOURED("add_eos_token"),
    HONOURED("add_prefix_space"),
    HONOURED("added_tokens_decoder"),
    HONOURED("additional_special_tokens"),
    HONOURED("bos_token"),
    HONOURED("chat_template"),
    HONOURED("cls_token"),
    HONOURED("eos_token"),
    HONOURED("extra_special_tokens"),
    HONOURED("mask_token"),
    HONOURED("model_specific_special_tokens"),
    HONOURED("pad_token"),
    HONOURED("sep_token"),
    HONOURED("tokenizer_class"), // default of eos_token and its kin; what vocab.json is read as
    HONOURED("unk_token"),
    NO_EFFECT("_commit_hash"),
    NO_EFFECT("_from_auto"),
    NO_EFFECT("_from_pipeline"),
    NO_EFFECT("_json_padding"),
    NO_EFFECT("_json_truncation"),
    NO_EFFECT("_spm_precompiled_charsmap"),
    NO_EFFECT("add_generation_prompt"),
    NO_EFFECT("auto_map"),
    NO_EFFECT("cache_dir"),
    NO_EFFECT("chat_control_tokens"),
    NO_EFFECT("clean_up_tokenization_spaces"),
    NO_EFFECT("commit_message"),
    NO_EFFECT("continuing_subword_prefix"),
    NO_EFFECT("end_of_word_suffix"),
    NO_EFFECT("files_loaded"),
    NO_EFFECT("force_download"),
    NO_EFFECT("init_inputs"),
    NO_EFFECT("initial_alphabet"),
    NO_EFFECT("is_local"),
    NO_EFFECT("legacy"),
    NO_EFFECT("local_files_only"),
    NO_EFFECT("max_len"),
    NO_EFFECT("max_length"),
    NO_EFFECT("max_target_length"),
    NO_EFFECT("merges_file"),
    NO_EFFECT("model_input_names"),
    NO_EFFECT("model_max_length"),
    NO_EFFECT("name_or_path"),
    NO_EFFECT("pad_to_multiple_of"),
    NO_EFFECT("pad_token_type_id"),
    NO_EFFECT("padding"),
    NO_EFFECT("padding_side"),
    NO_EFFECT("processor_class"),
    NO_EFFECT("proxies"),
    NO_EFFECT("repo_id"),
    NO_EFFECT("response_schema"),
    NO_EFFECT("response_template"),
    NO_EFFECT("revision"),
    NO_EFFECT("sanitize_control_tokens"),
    NO_EFFECT("save_jinja_files"),
    NO_EFFECT("stride"),
    NO_EFFECT("subfolder"),
    NO_EFFECT("token"),
    NO_EFFECT("tokenizer"),
    NO_EFFECT("tokenizer_file"),
    NO_EFFECT("tokenizer_padding"),
    NO_EFFECT("tokenizer_truncation"),
    NO_EFFECT("truncation"),
    NO_EFFECT("truncation_side"),
    NO_EFFECT("truncation_strategy"),
    NO_EFFECT("unk_id"),
    NO_EFFECT("use_source_tokenizer"),
    NO_EFFECT("verbose"),
    NO_EFFECT("vocab_file"),
    REFUSED("backend", "tokenizers"),
    REFUSED("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", "false"),
    REFUSED("fix_mistral_regex", "false"),
    REFUSED("gguf_file", NULL),
    REFUSED("merges", NULL),
    REFUSED("post_processor", NULL),
    REFUSED("split_special_tokens", "false"),
    REFUSED("tokenizer_object", NULL),
    REFUSED("vocab", NULL),
    END,
};

static const struct known *const tables[KEY_FILES] = {
    [KEYS_OF_CONFIG] = config,
    [KEYS_OF_GENERATION] = generation,
    [KEYS_OF_TOKENIZER] = tokenizer,
};

enum key_use key_use(enum key_file file, const char *key)
{
    const struct known *k = tables[file];
    while (k->name && strcmp(k->name, key) != 0)
        k++;
    return k->use;
}

static bool is_neutral(const struct js *v, const char *neutral)
{
    if (!v || js_is_null(v))
        return true;
    if (!neutral)
        return false;
    if (js_is_bool(v))
        return strcmp(neutral, js_bool(v) ? "true" : "false") == 0;
    if (js_is_string(v))
        return source_is_text(v, neutral);
    return js_is_number(v) && strchr("01", neutral[0]) && js_number(v) == strtod(neutral, NULL);
}

int known_keys_check(const struct config_source *s, enum key_file file)
{
    for (const struct known *k = tables[file]; k->name; k++) {
        const struct js *v = js_member(s->root, k->name);
        if (k->use != KEY_REFUSED || is_neutral(v, k->neutral))
            continue;
        return source_expected(s, k->name, k->neutral ? k->neutral : "none (it is not supported)",
                               v);
    }
    return 0;
}
