// The settings of a directory for retrieval: several files, parted by the byte 0x1e.
#include "../support/fuzz.h"

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    static const char *const names[] = {
        "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json",
        "artifact.metadata", "tokenizer_config.json", "config.json", NULL };
    mrc_model_config config;
    int ok = 0;
    const char *dir = fuzz_files(names, data, bytes);
    for (int head = 0; head < 4; head++) {
        static const mrc_head_type heads[] = { MRC_HEAD_LINEAR, MRC_HEAD_POOL, MRC_HEAD_TOKENS,
                                               MRC_HEAD_SCORE };
        mrc_ctx_clear_error(ctx);
        mrc_status s = mrc_encoder_config_load(ctx, &config, dir, heads[head], NULL);
        if (s == MRC_OK) {
            FUZZ_HOLDS(config.head >= MRC_HEAD_POOL && config.encoder.num_labels <= 2);
            FUZZ_HOLDS(config.encoder.query_max_length <= mrc_model_config_max_length(&config));
        }
        FUZZ_HOLDS(s == MRC_OK || *mrc_ctx_message(ctx));
        ok |= s == MRC_OK;
    }
    return ok;
}

#define CONFIG "{\"model_type\": \"bert\", \"hidden_size\": 8, \"num_attention_heads\": 2, "    \
    "\"vocab_size\": 9}"
const char *const fuzz_seeds[] = {
    "[{\"idx\": 0, \"path\": \"\", \"type\": \"sentence_transformers.models.Transformer\"}, "
    "{\"path\": \"1_Pooling\", \"type\": \"a.Pooling\"}]\036{\"prompts\": {\"query\": \"q: \"}, "
    "\"similarity_fn_name\": \"dot\"}\036{\"max_seq_length\": 64}\036{}\036{\"model_max_length\": "
    "99}\036" CONFIG,
    "[]\036{\"model_type\": \"ColBERT\", \"query_prefix\": \"[Q] \", \"skiplist_words\": [\"!\"]}"
    "\036{}\036{\"dim\": 4, \"query_maxlen\": 8}\036{}\036" CONFIG,
    "[]\036{\"model_type\": \"MultiVectorEncoder\"}\036{\"query_expansion\": {\"strategy\": "
    "\"min\", \"length\": 9}}\036{}\036{}\036" CONFIG,
    "[]\036{\"activation_fn\": \"torch.nn.modules.activation.Sigmoid\"}\036{}\036{}\036{}\036{"
    "\"model_type\": \"roberta\", \"architectures\": [\"RobertaForSequenceClassification\"], "
    "\"id2label\": {\"0\": \"x\"}, \"classifier_dropout\": 0.1}", NULL };
