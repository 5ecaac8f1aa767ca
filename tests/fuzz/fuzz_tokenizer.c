// Tokenizers of every kind: vocab.txt; tokenizer.json, where the bytes begin with "{"; vocab.json,
// merges.txt and configurations, where bytes 1e part them; a SentencePiece model behind byte 1d and
// a letter for its name.  What is accepted encodes any text to ids that it has, and to ranges in
// the text.
#include "../support/fuzz.h"

static const char *fuzz_tokenizer(const uint8_t *data, size_t bytes) {
    static const char *const names[] = { "vocab.json", "merges.txt", "tokenizer_config.json",
                                         "special_tokens_map.json", "added_tokens.json", NULL };
    if (bytes > 1 && *data == 0x1d)
        return fuzz_file_named(data[1] == 'x' ? "sentencepiece.bpe.model"
                               : data[1] == 'a' ? "spiece.model" : "spm.model", data + 2,
                               bytes - 2);
    if (memchr(data, 0x1e, bytes)) return fuzz_files(names, data, bytes);
    return fuzz_file_named(bytes && *data == '{' ? "tokenizer.json" : "vocab.txt", data, bytes);
}

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    static const char text[] = "Hello \xed\x95\x9c\xea\xb5\xad\xec\x96\xb4 a\xff [MASK]\n"
                               " <mask> \xf0\x9f\x98\x80's 1.";
    mrc_tokenizer *tok;
    mrc_encodings out = {0};
    const char *path = fuzz_tokenizer(data, bytes);
    mrc_status s = fuzz_status(mrc_tokenizer_load(ctx, &tok, path));
    if (path != fuzz_dir) unlink(path);         // a folder's other files would hide later ones
    FUZZ_HOLDS((s == MRC_OK) == (tok != NULL));
    if (tok && mrc_tokenizer_encode(ctx, tok, &out, text, sizeof text - 1, text, 5, NULL)
        == MRC_OK) {
        for (size_t i = 0; i < out.list[0].n; i++) {
            const int32_t *at = out.list[0].offset_mapping[i];
            FUZZ_HOLDS(mrc_tokenizer_token(tok, out.list[0].input_ids[i]) != NULL);
            FUZZ_HOLDS(at[0] >= 0 && at[0] <= at[1] && at[1] <= (int32_t)sizeof text);
        }
        mrc_encodings_free(&out);
    }
    mrc_tokenizer_free(tok);
    return s == MRC_OK;
}

const char *const fuzz_seeds[] = {
    // A model of three pieces, <unk>, a and b.
    "\x1d" "d\x0a\x09\x0a\x05<unk>\x18\x02\x0a\x08\x0a\x01"
    "a\x15\x01\x01\x80\x3f\x0a\x08\x0a\x01" "b\x15\x01\x01"
    "\x80\x40",
    // Every step that needs no charsmap, added tokens of both passes.
    "{\"added_tokens\": [{\"id\": 0, \"content\": \"<s>\", \"lstrip\": true, \"rstrip\": true}, "
    "{\"id\": 4, \"content\": \"He\", \"normalized\": true, \"single_word\": true}], "
    "\"normalizer\": "
    "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFKC\"}, {\"type\": \"NFD\"}, "
    "{\"type\": "
    "\"StripAccents\"}, {\"type\": \"Lowercase\"}, {\"type\": \"Strip\", \"strip_left\": true, "
    "\"strip_right\": true}, {\"type\": \"Replace\", \"pattern\": {\"Regex\": \" {2,}\"}, "
    "\"content\": "
    "\" \"}, {\"type\": \"Replace\", \"pattern\": {\"String\": \"l\"}, \"content\": \"\"}, "
    "{\"type\": "
    "\"Prepend\", \"prepend\": \"_\"}, {\"type\": \"BertNormalizer\", \"lowercase\": true}]}, "
    "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Punctuation\", "
    "\"behavior\": \"MergedWithNext\"}, {\"type\": \"Digits\", \"individual_digits\": true}, "
    "{\"type\": "
    "\"Split\", \"pattern\": {\"Regex\": \"\\\\s+\"}, \"behavior\": \"Removed\", \"invert\": "
    "false}, "
    "{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"first\"}]}, "
    "\"post_processor\": {\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\"}]}, "
    "\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"byte_fallback\": true, \"vocab\": "
    "[[\"<s>\", 0], "
    "[\"a\", -1], [\"_h\", -2.5], [\"<0x0A>\", -3]]}}",
    "{\"pre_tokenizer\": {\"type\": \"Whitespace\"}, \"model\": {\"type\": \"BPE\", \"unk_token\": "
    "\"u\", \"fuse_unk\": true, \"vocab\": {\"u\": 0, \"l\": 1, \"ll\": 2}, \"merges\": [\"l "
    "l\"]}}",
    // Before version 0.9 of the package.
    "{\"added_tokens\": [{\"id\": 0, \"content\": \"[UNK]\"}], \"normalizer\": null, "
    "\"pre_tokenizer\": "
    "{\"type\": \"BertPreTokenizer\"}, \"model\": {\"vocab\": {\"[UNK]\": 0, \"a\": 1}}}",
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\n##l\na\n1\n.\n",
    "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 0, \"content\": \"[UNK]\", \"special\": "
    "true}], \"normalizer\": {\"type\": \"BertNormalizer\", \"lowercase\": true}, "
    "\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}, \"model\": {\"type\": \"WordPiece\", "
    "\"unk_token\": \"[UNK]\", \"vocab\": {\"[UNK]\": 0, \"[CLS]\": 1, \"[SEP]\": 2, \"a\": 3}}}",
    "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 0, \"content\": \"<s>\", \"special\": "
    "true}, "
    "{\"id\": 9, \"content\": \"<mask>\", \"lstrip\": true, \"special\": true}], "
    "\"pre_tokenizer\": "
    "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true}, "
    "\"post_processor\": {\"type\": \"RobertaProcessing\", \"sep\": [\"</s>\", 2], \"cls\": "
    "[\"<s>\", 0], \"trim_offsets\": true, \"add_prefix_space\": false}, \"model\": {\"type\": "
    "\"BPE\", \"unk_token\": null, \"vocab\": {\"<s>\": 0, \"<pad>\": 1, \"</s>\": 2, "
    "\"<unk>\": 3, "
    "\"H\": 4, \"e\": 5, \"l\": 6, \"He\": 7, \"\\u0120a\": 8, \"<mask>\": 9, \"\\u0120\": 10, "
    "\"a\": 11}, \"merges\": [\"H e\", [\"\\u0120\", \"a\"]]}}",
    "{\"<s>\": 0, \"<pad>\": 1, \"</s>\": 2, \"<unk>\": 3, \"<mask>\": 4, \"l\": 5, \"o\": 6, "
    "\"lo\": 7, \"\\u0120\": 8, \"a\": 9, \"\\u0120a\": 10}\x1e#version: 0.2\nl o\n\xc4\xa0 a\n"
    "\x1e{\"add_prefix_space\": true, \"model_max_length\": 512}\x1e{\"mask_token\": {\"content\": "
    "\"<mask>\", \"lstrip\": true}}",
    NULL
};
