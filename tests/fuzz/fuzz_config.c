// config.json: what is accepted has sizes that fit each other.
#include "../support/fuzz.h"

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    mrc_model_config c;
    mrc_status s = fuzz_status(mrc_model_config_load(ctx, &c, fuzz_file(data, bytes)));
    if (s != MRC_OK) return 0;
    // MobileBERT's layers are as wide as its bottleneck.
    const size_t width = c.model_type == MRC_MODEL_MOBILEBERT ? c.intra_bottleneck_size
                                                              : c.hidden_size;
    FUZZ_HOLDS(width && c.num_attention_heads && width % c.num_attention_heads == 0);
    FUZZ_HOLDS(c.vocab_size && c.max_position_embeddings && isfinite(c.layer_norm_eps));
    return 1;
}

const char *const fuzz_seeds[] = {
    "{\"model_type\": \"roberta\", \"vocab_size\": 100, \"hidden_size\": 8, \"num_hidden_layers\": "
    "2, \"num_attention_heads\": 2, \"intermediate_size\": 16, \"max_position_embeddings\": 66, "
    "\"type_vocab_size\": 1, \"pad_token_id\": 1, \"layer_norm_eps\": 1e-05, \"mrc_head\": "
    "{\"type\": \"bilstm\", \"num_layers\": 2, \"hidden_size\": 4, \"dropout\": 0.2}}",
    "{\"model_type\": \"bert\", \"vocab_size\": 100, \"hidden_size\": 8, \"num_hidden_layers\": 1, "
    "\"num_attention_heads\": 2, \"intermediate_size\": 16, \"max_position_embeddings\": 64, "
    "\"hidden_act\": \"gelu\", \"position_embedding_type\": \"absolute\", \"mrc_head\": {\"type\": "
    "\"conv1d\", \"num_layers\": 1, \"kernel_size\": 3, \"pad_to_max_length\": true}}",
    "{\"model_type\": \"bert\"}",
    "{\"model_type\": \"deberta\", \"vocab_size\": 100, \"hidden_size\": 8, \"num_hidden_layers\": "
    "1, \"num_attention_heads\": 2, \"intermediate_size\": 16, \"max_position_embeddings\": 64, "
    "\"relative_attention\": true, \"pos_att_type\": \"c2p|p2c\", \"max_relative_positions\": -1, "
    "\"position_biased_input\": false, \"type_vocab_size\": 0, \"talking_head\": false}", NULL
};
