// The readers of data sets, Arrow's too: whatever they keep, answers stand where they say.  Where
// the bytes begin as a saved data set's state.json does, a byte 1e parts it from its stream.
#include "../support/fuzz.h"

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
    "{\"_data_files\": [{\"filename\": \"a.arrow\"}], \"_split\": "
    "\"train\"}\x1e\xff\xff\xff\xff", NULL
};
