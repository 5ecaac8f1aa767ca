// The readers of data sets, Arrow's too: whatever they keep, answers stand where they say.  Where
// the bytes begin as a saved data set's state.json does, a byte 1e parts it from its stream.
#include "../support/fuzz.h"

// "id|question|context|" and "start:text|" of each answer, as compare_oracles.py has it.
static uint32_t fuzz_example_crc(const mrc_example *e) {
    char text[32];
    uint32_t crc = fuzz_crc(fuzz_crc(0, e->id, strlen(e->id)), "|", 1);
    crc = fuzz_crc(fuzz_crc(crc, e->question, e->question_bytes), "|", 1);
    crc = fuzz_crc(fuzz_crc(crc, e->context, e->context_bytes), "|", 1);
    for (size_t k = 0; k < e->n_answers; k++) {
        const mrc_answer *a = &e->answers[k];
        crc = fuzz_crc(crc, text, (size_t)snprintf(text, sizeof text, "%lld:",
                                                   (long long)a->answer_start));
        crc = fuzz_crc(fuzz_crc(crc, a->text, a->bytes), "|", 1);
    }
    return crc;
}

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    static const char *const names[] = { "state.json", "a.arrow", NULL };
    int folder = bytes > 14 && !memcmp(data, "{\"_data_files\"", 14);
    const char *path = folder ? fuzz_files(names, data, bytes) : fuzz_file(data, bytes);
    mrc_dataset *d, *questions;
    mrc_status s = mrc_dataset_load(ctx, &d, path);
    fuzz_status(s == MRC_ERR_ARG && folder ? MRC_ERR_FORMAT : s);   // names what is not here
    FUZZ_HOLDS((s == MRC_OK) == (d != NULL));
    for (size_t i = 0; d && i < mrc_dataset_size(d); i++) {
        const mrc_example *e = mrc_dataset_at(d, i);
        FUZZ_HOLDS(mrc_utf8_valid(e->context, e->context_bytes) == e->context_bytes);
        fuzz_digest += fuzz_example_crc(e);
        for (size_t k = 0; k < e->n_answers; k++) {
            const mrc_answer *a = &e->answers[k];
            size_t at = mrc_utf8_offset(e->context, e->context_bytes, (size_t)a->answer_start);
            FUZZ_HOLDS(a->bytes <= e->context_bytes - at);
            FUZZ_HOLDS(!memcmp(e->context + at, a->text, a->bytes));
        }
    }
    if (d) {
        FUZZ_HOLDS(mrc_dataset_load_questions(ctx, &questions, path) == MRC_OK);
        FUZZ_HOLDS(mrc_dataset_size(questions) >= mrc_dataset_size(d));
        mrc_dataset_free(questions);
    }
    mrc_dataset_free(d);
    return s == MRC_OK;
}

const char *const fuzz_seeds[] = {
    "{\"version\": \"1\", \"data\": [{\"title\": \"t\", \"paragraphs\": [{\"context\": \"a b\", "
    "\"qas\": [{\"id\": \"1\", \"question\": \"q\", \"answers\": [{\"text\": \"b\", "
    "\"answer_start\": 2}]}]}]}]}",
    "{\"id\": \"1\", \"context\": \"a b\", \"question\": \"q\", \"answers\": {\"text\": [\"b\"], "
    "\"answer_start\": [2]}}\n{\"id\": 2, \"context\": \"c\", \"question\": \"q\", \"answers\": "
    "{\"text\": [], \"answer_start\": []}, \"is_impossible\": true}\n",
    "[{\"guid\": \"g\", \"context\": \"a b\", \"question\": \"q\", \"question_type\": 2, "
    "\"answers\": "
    "[{\"text\": \"b\", \"answer_start\": 2}]}]",
    "{\"data\": [{\"title\": \"t\", \"paragraphs\": [{\"context\": \"a b\", \"qas\": [{\"id\": "
    "\"1\", \"question\": \"q\", \"answers\": [], \"is_impossible\": true}]}]}]}",
    "{\"data\": [{\"title\": \"t\", \"context\": \"<p> b</p>\", \"qas\": [{\"id\": \"1\", "
    "\"question\": \"q\", \"answer\": {\"text\": \"b\", \"answer_start\": 3}}]}]}",
    "{\"_data_files\": [{\"filename\": \"a.arrow\"}], \"_split\": "
    "\"train\"}\x1e\xff\xff\xff\xff", NULL
};
