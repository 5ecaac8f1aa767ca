// Vectors on disk and in an index, and what is found in it, against plain loops in double.
// tags: threads
#define TEST_LINKED
#include "../support/folder.h"
#include "../../tools/stages.h"

static mrc_backend *be;
static mrc_ctx *ctx;

// n rows in [-1, 1), every fifth a copy of the one before: ties.
static mrc_vectors vectors_new(size_t n, size_t width) {
    mrc_vectors v = { .n = n, .n_rows = n, .width = width };
    v.rows = malloc((n * width + 1) * sizeof *v.rows);
    for (size_t i = 0; i < n * width; i++) {
        v.rows[i] = i / width % 5 == 4 ? v.rows[i - width] : (float)test_random();
    }
    return v;
}

static void unit(mrc_vectors *v) {
    for (size_t i = 0; i < v->n_rows; i++) {
        double square = 0;
        float *row = v->rows + i * v->width;
        for (size_t k = 0; k < v->width; k++) square += (double)row[k] * row[k];
        for (size_t k = 0; k < v->width; k++) row[k] = (float)(row[k] / sqrt(square));
    }
}

static void drop(mrc_vectors *v) {
    free(v->rows);
    free(v->offsets);
}

static double dot_of(const mrc_vectors *a, size_t i, const mrc_vectors *b, size_t j) {
    double sum = 0;
    for (size_t k = 0; k < a->width; k++) {
        sum += (double)a->rows[i * a->width + k] * b->rows[j * b->width + k];
    }
    return sum;
}

//==============================================================================
// Files
//==============================================================================
typedef struct npy_case { const char *header; size_t data; const char *wrong; } npy_case;
static const npy_case npy_cases[] = {
    { "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 24, NULL },
    { "{'descr': '<f2', 'fortran_order': False, 'shape': (2, 3), }", 12, NULL },
    { "{'descr': '|i1', 'fortran_order': False, 'shape': (2, 3), }", 6, NULL },
    { "{'shape': (2, 3), 'fortran_order': False, 'descr': '<f4'}", 24, NULL },
    { "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }", 48, "another type" },
    { "{'descr': '|O', 'fortran_order': False, 'shape': (2, 3), }", 24, "another type" },
    { "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", 24, "Fortran" },
    { "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", 24, "no shape" },
    { "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3), }", 24, "two axes" },
    { "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 20, "its header says" },
    { "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 0), }", 0, "without numbers" },
    { "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 3)}", 24,
      "no shape" },
    { "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387905, 4)}", 16,
      "its header says" },
    { "{}", 24, "no descr" },
};

static void test_npy(void) {
    for (size_t i = 0; i < sizeof npy_cases / sizeof *npy_cases; i++) {
        const npy_case *c = &npy_cases[i];
        unsigned char file[512] = { 0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0 };
        size_t length = strlen(c->header);
        file[8] = (unsigned char)length;
        memcpy(file + 10, c->header, length);
        for (size_t k = 0; k < c->data; k++) file[10 + length + k] = (unsigned char)(k % 60);
        const char *path = path_of("a.npy");
        mrc_vectors v;
        bytes_new("a.npy", file, 10 + length + c->data);
        mrc_status s = mrc_vectors_load(ctx, &v, path);
        CHECK((s == MRC_OK) == !c->wrong, "npy %zu: %s", i, mrc_ctx_message(ctx));
        if (s == MRC_OK) CHECK(v.n == 2 && v.width == 3, "npy %zu: %zu, %zu", i, v.n, v.width);
        else CHECK(c->wrong && strstr(message, c->wrong), "npy %zu: %s", i, message);
        mrc_vectors_free(&v);
        mrc_ctx_clear_error(ctx);
        for (size_t cut = 0; cut < 10 + length; cut += 7) {
            bytes_new("a.npy", file, cut);
            CHECK(mrc_vectors_load(ctx, &v, path) != MRC_OK, "npy %zu cut at %zu", i, cut);
            mrc_ctx_clear_error(ctx);
        }
    }
    mrc_vectors v = vectors_new(7, 5), back;
    for (int k = 0; k < 3; k++) {
        uint64_t offsets[5] = { 0, 2, 2, 5, 7 };
        const char *path = path_of(k ? "v.safetensors" : "v.npy");
        if (k == 2) {
            v.n = 4;
            v.offsets = malloc(sizeof offsets);
            memcpy(v.offsets, offsets, sizeof offsets);
        }
        CHECK(mrc_vectors_save(ctx, &v, path) == MRC_OK, "save %d", k);
        CHECK(mrc_vectors_load(ctx, &back, path) == MRC_OK, "load %d", k);
        CHECK(back.n == v.n && back.n_rows == 7 && !memcmp(back.rows, v.rows, 35 * sizeof(float))
              && (k < 2 || !memcmp(back.offsets, offsets, sizeof offsets)), "same %d", k);
        mrc_vectors_free(&back);
    }
    CHECK(mrc_vectors_save(ctx, &v, path_of("w.npy")) == MRC_ERR_ARG, "npy has no offsets");
    mrc_ctx_clear_error(ctx);
    v.rows[3] = NAN;
    v.n = 7;
    free(v.offsets);
    v.offsets = NULL;
    mrc_vectors_save(ctx, &v, path_of("v.npy"));
    CHECK(mrc_vectors_load(ctx, &back, path_of("v.npy")) == MRC_ERR_NUMERIC, "not finite");
    mrc_ctx_clear_error(ctx);
    drop(&v);
}

//==============================================================================
// Search
//==============================================================================
// Whether hits are the best of scores (in double), best first, ties by passage.
static int hits_right(const double *scores, size_t n, const mrc_hit *hits, size_t n_hits,
                      double close) {
    for (size_t i = 0; i < n_hits; i++) {
        size_t ahead = 0;
        if (fabs(hits[i].score - scores[hits[i].passage]) > close) return 0;
        if (i && (hits[i].score > hits[i - 1].score
                  || (!(hits[i].score < hits[i - 1].score)
                      && hits[i].passage <= hits[i - 1].passage))) return 0;
        for (size_t k = 0; k < n; k++) ahead += scores[k] > scores[hits[i].passage] + 2 * close;
        if (ahead > i) return 0;
    }
    return 1;
}

static const size_t thread_counts[4] = { 1, 2, 3, 8 };

// To the bit; what lies between the members of a hit is nobody's.
static int same_hits(const mrc_hit *a, const mrc_hit *b, size_t n) {
    size_t same = 0;
    while (same < n && a[same].passage == b[same].passage
           && !memcmp(&a[same].score, &b[same].score, sizeof a->score)) same++;
    return same == n;
}

static void search_case(size_t n, size_t width, size_t top_k, mrc_similarity similarity) {
    mrc_vectors v = vectors_new(n, width), q = vectors_new(9, width);
    if (similarity == MRC_SIMILARITY_COS) unit(&v), unit(&q);
    mrc_vectors_desc desc = { .similarity = similarity };
    mrc_dense_config config = mrc_dense_config_default();
    mrc_dense *d;
    mrc_hit *hits = malloc(9 * top_k * sizeof *hits), *others = malloc(9 * top_k * sizeof *hits);
    mrc_hit one[64];
    double *scores = malloc(n * sizeof *scores);
    size_t n_hits[9], n_one;
    CHECK(mrc_vectors_index(ctx, path_of("ix"), &v, &desc) == MRC_OK, "index %zu", n);
    CHECK(mrc_dense_open(ctx, &d, path_of("ix"), 0) == MRC_OK, "open");
    CHECK(mrc_dense_search(d, &q, top_k, &config, hits, n_hits) == MRC_OK, "search");
    for (size_t i = 0; i < 9; i++) {
        for (size_t k = 0; k < n; k++) scores[k] = dot_of(&v, k, &q, i);
        CHECK(n_hits[i] == (top_k < n ? top_k : n)
              && hits_right(scores, n, hits + i * top_k, n_hits[i], 1e-6 * sqrt((double)width)),
              "n %zu width %zu k %zu query %zu", n, width, top_k, i);
        mrc_vectors single = { .n = 1, .n_rows = 1, .width = width, .rows = q.rows + i * width };
        size_t k = top_k < 64 ? top_k : 64;
        CHECK(mrc_dense_search(d, &single, k, &config, one, &n_one) == MRC_OK
              && same_hits(one, hits + i * top_k, n_one), "query %zu alone", i);
    }
    for (int t = 0; t < 4; t++) {
        config.threads = thread_counts[t];
        CHECK(mrc_dense_search(d, &q, top_k, &config, others, n_hits) == MRC_OK, "search");
        for (size_t i = 0; i < 9; i++) {
            CHECK(same_hits(others + i * top_k, hits + i * top_k, n_hits[i]), "n %zu width %zu: "
                  "other hits with %zu threads", n, width, config.threads);
        }
    }
    uint32_t passages[3] = { 0, (uint32_t)(n / 2), (uint32_t)(n - 1) };
    double some[3];
    CHECK(mrc_dense_score(d, &q, 1, passages, 3, some) == MRC_OK, "scores");
    for (int k = 0; k < 3; k++) {
        CHECK(fabs(some[k] - dot_of(&v, passages[k], &q, 1)) < 1e-6 * sqrt((double)width), "%d", k);
    }
    mrc_dense_close(d);
    free(hits);
    free(others);
    free(scores);
    drop(&v);
    drop(&q);
}

// 50 sets: every width with few, some and many vectors, k below n and above it, both similarities.
static void test_exact(void) {
    static const size_t widths[] = { 1, 2, 3, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128,
                                     129, 300, 383, 384, 512, 768, 1023, 1024, 1025 };
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        const size_t many[] = { 1 + 97 * i, 1024, 2500 };
        const size_t n = many[i % 5 == 3 ? 1 : i % 5 == 4 && widths[i] < 400 ? 2 : 0];
        search_case(n, widths[i], 10, MRC_SIMILARITY_COS);
        search_case(40 + i, widths[i], 60, MRC_SIMILARITY_DOT);
    }
}

// How much of the true first ten each form keeps.
static void test_forms(void) {
    mrc_vectors v = vectors_new(3000, 384), q = vectors_new(50, 384);
    mrc_dense_config config = mrc_dense_config_default();
    static const double least[] = { 1, 0.97, 0.99, 0.9 };
    mrc_hit truth[500], hits[500];
    size_t n_hits[50];
    unit(&v), unit(&q);
    for (int form = MRC_FORM_F32; form <= MRC_FORM_BITS; form++) {
        mrc_vectors_desc desc = { .form = (mrc_vector_form)form };
        mrc_dense *d;
        size_t kept = 0;
        mrc_vectors_index(ctx, path_of("forms"), &v, &desc);
        CHECK(mrc_dense_open(ctx, &d, path_of("forms"), 0) == MRC_OK, "open");
        CHECK(mrc_dense_search(d, &q, 10, &config, form ? hits : truth, n_hits) == MRC_OK,
              "form %d: %s", form, mrc_ctx_message(ctx));
        for (size_t i = 0; form && i < 500; i++) {
            const mrc_hit *right = truth + i / 10 * 10;
            for (size_t k = 0; k < 10; k++) kept += hits[i].passage == right[k].passage;
        }
        CHECK(!form || (double)kept / 500 >= least[form], "form %d keeps %.3f", form,
              (double)kept / 500);
        mrc_dense_close(d);
    }
    drop(&v);
    drop(&q);
}

// More queries than are scored at a time and more rows than a block has, by backends of 1, 2, 3 and
// 8 threads: the same hits, which are those of each query alone.
static void test_exact_many(void) {
    enum { N = 1500, Q = 1100, K = 5 };
    mrc_vectors v = vectors_new(N, 40), q = vectors_new(Q, 40);
    mrc_hit *hits = malloc(2 * Q * K * sizeof *hits), *others = hits + Q * K, one[K];
    size_t *n_hits = malloc(Q * sizeof *n_hits), n;
    const mrc_vectors_desc desc = { .similarity = MRC_SIMILARITY_DOT };
    const mrc_dense_config config = mrc_dense_config_default();
    CHECK(mrc_vectors_index(ctx, path_of("many"), &v, &desc) == MRC_OK, "index");
    for (int t = 0; t < 4; t++) {
        mrc_backend *other;
        mrc_ctx *own;
        mrc_dense *d;
        mrc_backend_cpu_new(&other, &(mrc_backend_desc){ .threads = thread_counts[t] });
        mrc_ctx_new(&own, &(mrc_ctx_desc){ .backend = other });
        CHECK(mrc_dense_open(own, &d, path_of("many"), 0) == MRC_OK, "open");
        CHECK(mrc_dense_search(d, &q, K, &config, t ? others : hits, n_hits) == MRC_OK, "search");
        CHECK(!t || same_hits(others, hits, Q * K), "other hits with %zu threads",
              thread_counts[t]);
        for (size_t i = 0; i < Q && !t; i += 7) {
            const mrc_vectors single = { .n = 1, .n_rows = 1, .width = 40,
                                         .rows = q.rows + i * 40 };
            CHECK(mrc_dense_search(d, &single, K, &config, one, &n) == MRC_OK
                  && same_hits(one, hits + i * K, K), "query %zu alone", i);
        }
        mrc_dense_close(d);
        mrc_ctx_free(own);
        mrc_backend_free(other);
    }
    free(hits);
    free(n_hits);
    drop(&v);
    drop(&q);
}

static uint32_t crc_of(const char *path) {
    uint32_t crc = 0;
    uint64_t bytes;
    mrc_file_crc32c(ctx, path, &crc, &bytes);
    return crc;
}

// The same hits from any number of threads, for a query alone and in any later call: marks of what
// was met begin again after 255 searches, and a call with a larger ef needs more room.
static void graph_again(mrc_dense *d, const mrc_vectors *v, const mrc_vectors *q,
                        const mrc_hit *hits) {
    static const size_t ef[6] = { 128, 10, 300, 128, 128, 128 };
    mrc_dense_config config = mrc_dense_config_default();
    mrc_hit *others = malloc(q->n * 10 * sizeof *others), one[10];
    size_t *n = malloc(q->n * sizeof *n), n_one;
    for (int t = 0; t < 4; t++) {
        config.threads = thread_counts[t];
        for (int k = 0; k < 6; k++) {
            config.ef = ef[k];
            CHECK(mrc_dense_search(d, q, 10, &config, others, n) == MRC_OK, "graph");
            CHECK(ef[k] != 128 || same_hits(others, hits, 10 * q->n), "%zu threads, call %d: other "
                  "hits", config.threads, k);
        }
    }
    for (size_t i = 0; i < q->n; i++) {
        const mrc_vectors single = { .n = 1, .n_rows = 1, .width = q->width,
                                     .rows = q->rows + i * q->width };
        CHECK(mrc_dense_search(d, &single, 10, &config, one, &n_one) == MRC_OK
              && same_hits(one, hits + 10 * i, 10), "query %zu alone", i);
        for (size_t k = 0; k < 10; k++) {
            const mrc_hit *x = &one[k];
            CHECK(fabs(x->score - dot_of(v, x->passage, q, i)) < 1e-5
                  && (!k || x[-1].score > x->score || (!(x[-1].score < x->score)
                                                       && x[-1].passage < x->passage)),
                  "query %zu: hit %zu is out of order", i, k);
        }
    }
    free(others);
    free(n);
}

// Distances are sums in one order in every build, whatever vectors the processor has: a graph of
// these rows is the same file everywhere.
static void test_graph_bits(void) {
    const mrc_vectors_desc desc = { .graph = 1, .m = 5, .ef_construction = 40, .threads = 2,
                                    .seed = 3, .similarity = MRC_SIMILARITY_DOT };
    mrc_vectors v = { .n = 700, .n_rows = 700, .width = 83 };
    uint32_t x = 1;
    v.rows = malloc(v.n * v.width * sizeof *v.rows);
    for (size_t i = 0; i < v.n * v.width; i++) {
        x = x * 1664525u + 1013904223u;
        v.rows[i] = (float)(x >> 8) * 0x1p-23f - 1;
    }
    CHECK(mrc_vectors_index(ctx, path_of("bits"), &v, &desc) == MRC_OK, "index");
    uint32_t crc = crc_of(path_of("bits/vectors.bin"));
    CHECK(crc == 0x5d337369u, "the file's CRC-32C is %08x", (unsigned)crc);
    drop(&v);
}

static void test_graph(void) {
    for (int similarity = 0; similarity < 2; similarity++) {
        mrc_vectors v = vectors_new(4000, 48), q = vectors_new(100, 48);
        mrc_dense_config config = mrc_dense_config_default();
        mrc_hit *truth = malloc(2000 * sizeof *truth), *hits = truth + 1000;
        size_t n_hits[100], kept = 0;
        uint32_t crc = 0;
        mrc_dense *d;
        if (!similarity) unit(&v), unit(&q);
        for (int k = 0; k < 4; k++) {
            const size_t threads = thread_counts[k];
            mrc_vectors_desc desc = { .graph = 1, .threads = threads, .seed = 7,
                                      .similarity = (mrc_similarity)similarity };
            CHECK(mrc_vectors_index(ctx, path_of("graph"), &v, &desc) == MRC_OK, "graph: %s",
                  mrc_ctx_message(ctx));
            uint32_t now = crc_of(path_of("graph/vectors.bin"));
            CHECK(threads == 1 || now == crc, "%zu threads: another file", threads);
            crc = now;
        }
        CHECK(mrc_dense_open(ctx, &d, path_of("graph"), 0) == MRC_OK, "open");
        mrc_dense_info about = mrc_dense_about(d);
        CHECK(about.unreachable == 0 && about.recall[2] > 0.9, "%zu out of reach, recall %.3f",
              about.unreachable, about.recall[2]);
        config.ef = 128;
        CHECK(mrc_dense_search(d, &q, 10, &config, hits, n_hits) == MRC_OK, "graph: %s",
              mrc_ctx_message(ctx));
        config.exact = 1;
        CHECK(mrc_dense_search(d, &q, 10, &config, truth, n_hits) == MRC_OK, "exact");
        for (size_t i = 0; i < 1000; i++) {
            const mrc_hit *right = truth + i / 10 * 10;
            for (size_t k = 0; k < 10; k++) kept += hits[i].passage == right[k].passage;
        }
        CHECK(kept >= 880, "similarity %d: the graph finds %zu of 1000", similarity, kept);
        graph_again(d, &v, &q, hits);
        mrc_dense_close(d);
        free(truth);
        drop(&v);
        drop(&q);
    }
}

// Token rows: passage i has 1 + i % 7 of them, the third none.
static mrc_vectors tokens_new(size_t n, size_t width, size_t none) {
    mrc_vectors v = vectors_new(n * 4, width);
    v.n = n;
    v.offsets = malloc((n + 1) * sizeof *v.offsets);
    v.offsets[0] = 0;
    for (size_t i = 0; i < n; i++) v.offsets[i + 1] = v.offsets[i] + (i == none ? 0 : 1 + i % 7);
    v.n_rows = (size_t)v.offsets[n];
    unit(&v);
    return v;
}

static double maxsim_of(const mrc_vectors *v, size_t p, const mrc_vectors *q, size_t i) {
    double sum = 0;
    for (uint64_t a = q->offsets[i]; a < q->offsets[i + 1]; a++) {
        double most = -HUGE_VAL;
        for (uint64_t b = v->offsets[p]; b < v->offsets[p + 1]; b++) {
            most = fmax(most, dot_of(v, (size_t)b, q, (size_t)a));
        }
        sum += most;
    }
    return sum;
}

static void test_tokens(void) {
    mrc_vectors v = tokens_new(900, 32, 2), q = tokens_new(20, 32, SIZE_MAX);
    double scores[900];
    mrc_hit hits[200];
    size_t n_hits[20];
    static const double least[] = { 0.999, 0.35, 0.55, 0, 0.75 };     // by bits
    for (int bits = 0; bits <= 4; bits = bits ? 2 * bits : 1) {
        mrc_dense_config config = mrc_dense_config_default();
        uint32_t crc = 0;
        size_t kept = 0;
        mrc_dense *d;
        for (int k = 0; k < 4; k++) {
            const size_t threads = thread_counts[k];
            mrc_vectors_desc desc = { .residual_bits = bits, .threads = threads };
            CHECK(mrc_vectors_index(ctx, path_of("tokens"), &v, &desc) == MRC_OK, "bits %d: %s",
                  bits, mrc_ctx_message(ctx));
            uint32_t now = crc_of(path_of("tokens/tokens.bin"));
            CHECK(threads == 1 || now == crc, "%zu threads: another file", threads);
            crc = now;
        }
        CHECK(mrc_dense_open(ctx, &d, path_of("tokens"), 1) == MRC_OK, "open");
        config.ncells = 64;             // random rows do not cluster
        config.ndocs = 900;
        CHECK(mrc_dense_search(d, &q, 10, &config, hits, n_hits) == MRC_OK, "bits %d: %s", bits,
              mrc_ctx_message(ctx));
        for (size_t i = 0; i < 20; i++) {
            const mrc_hit *found = hits + 10 * i;
            for (size_t p = 0; p < 900; p++) {
                scores[p] = p == 2 ? -HUGE_VAL : maxsim_of(&v, p, &q, i);
            }
            if (!bits) CHECK(hits_right(scores, 900, found, n_hits[i], 1e-5), "query %zu", i);
            for (size_t k = 0; k < n_hits[i]; k++) {
                size_t ahead = 0;
                for (size_t p = 0; p < 900; p++) ahead += scores[p] > scores[found[k].passage];
                kept += ahead < 10;
                CHECK(found[k].passage != 2, "an empty passage is a hit");
            }
        }
        CHECK((double)kept / 200 >= least[bits], "bits %d keep %.3f", bits, (double)kept / 200);
        mrc_dense_close(d);
    }
    drop(&v);
    drop(&q);
}

//==============================================================================
// Damage: found, or without effect
//==============================================================================
static void damage_case(const char *name, int tokens, const mrc_vectors *q) {
    char *data;
    size_t bytes, found = 0, tried = 0;
    const char *path = path_of(name);
    mrc_file_read(ctx, &data, &bytes, path);
    char *copy = malloc(bytes);
    mrc_dense_config config = mrc_dense_config_default();
    size_t n_hits[32];
    mrc_hit hits[32 * 3];
    config.threads = 1;
    for (size_t i = 0; i < bytes; i += bytes > 20000 ? 37 : 1) {
        mrc_dense *d = NULL;
        memcpy(copy, data, bytes);
        copy[i] = (char)(copy[i] ^ 0x41);
        bytes_new(name, copy, bytes);
        mrc_status s = mrc_dense_open(ctx, &d, folder, tokens);
        if (s == MRC_OK) s = mrc_dense_check(d);
        tried++;
        found += s != MRC_OK;
        if (d) mrc_dense_search(d, q, 3, &config, hits, n_hits);
        mrc_dense_close(d);
        mrc_ctx_clear_error(ctx);
    }
    CHECK(found == tried, "%s: %zu of %zu flipped bytes found", name, found, tried);
    for (size_t cut = 0; cut < bytes; cut += 1 + bytes / 97) {
        mrc_dense *d;
        bytes_new(name, data, cut);
        CHECK(mrc_dense_open(ctx, &d, folder, tokens) != MRC_OK, "%s cut at %zu", name, cut);
        mrc_ctx_clear_error(ctx);
    }
    bytes_new(name, data, bytes);
    mrc_file_free(ctx, data);
    free(copy);
}

static void test_damage(void) {
    mrc_vectors v = vectors_new(60, 8), q = vectors_new(4, 8);
    mrc_vectors_desc desc = { .graph = 1, .form = MRC_FORM_INT8, .similarity = MRC_SIMILARITY_DOT,
                              .m = 4, .threads = 1 };
    CHECK(mrc_vectors_index(ctx, folder, &v, &desc) == MRC_OK, "index");
    damage_case("vectors.bin", 0, &q);
    drop(&v);
    drop(&q);
    v = tokens_new(40, 8, 2), q = tokens_new(4, 8, SIZE_MAX);
    desc = (mrc_vectors_desc){ .residual_bits = 2, .threads = 1 };
    CHECK(mrc_vectors_index(ctx, folder, &v, &desc) == MRC_OK, "index");
    damage_case("tokens.bin", 1, &q);
    drop(&v);
    drop(&q);
}

// Blocks that a context's allocator has given out.
static void *counted_alloc(void *user, size_t bytes) {
    void *p = malloc(bytes);
    *(size_t *)user += p != NULL;
    return p;
}
static void counted_free(void *user, void *p) {
    *(size_t *)user -= p != NULL;
    free(p);
}

// A search that fails half-way through loading a graph, tried again as a service would.
static void test_again(void) {
    mrc_vectors v = vectors_new(2000, 8), q = vectors_new(2, 8);
    const mrc_vectors_desc desc = { .graph = 1, .similarity = MRC_SIMILARITY_DOT, .threads = 1,
                                    .ef_construction = 20 };
    const mrc_dense_config config = mrc_dense_config_default();
    size_t n_hits[2], blocks = 0, bytes, before;
    mrc_hit hits[6];
    mrc_ctx *own = NULL;
    mrc_dense *d = NULL;
    char *data;
    CHECK(mrc_vectors_index(ctx, folder, &v, &desc) == MRC_OK, "index: %s", message);
    CHECK(mrc_file_read(ctx, &data, &bytes, path_of("vectors.bin")) == MRC_OK, "read");
    data[2000 * 64 + 2000 * 4 + 2000 + 100000] ^= 1;           // a link, behind rows and levels
    bytes_new("vectors.bin", data, bytes);
    mrc_file_free(ctx, data);
    mrc_ctx_new(&own, &(mrc_ctx_desc){ .backend = be, .log = keep_message, .allocator =
                                       { counted_alloc, counted_free, &blocks } });
    before = blocks;
    CHECK(mrc_dense_open(own, &d, folder, 0) == MRC_OK, "open: %s", message);
    for (int i = 0; i < 3; i++) {
        CHECK(mrc_dense_search(d, &q, 3, &config, hits, n_hits) == MRC_ERR_FORMAT
              && strstr(message, "is damaged"), "damaged links: %s", message);
        mrc_ctx_clear_error(own);
    }
    mrc_dense_close(d);
    CHECK(blocks == before, "%zu blocks are left", blocks - before);
    mrc_ctx_free(own);
    drop(&v);
    drop(&q);
}

// A number that is not finite has no place among those that are compared.
static void test_not_finite(void) {
    const mrc_dense_config config = mrc_dense_config_default();
    for (int form = 0; form <= MRC_FORM_BITS; form++) {
        mrc_vectors v = vectors_new(40, 8), q = vectors_new(2, 8);
        const mrc_vectors_desc desc = { .form = (mrc_vector_form)form, .threads = 1 };
        mrc_dense *d = NULL;
        mrc_hit hits[6];
        size_t n_hits[2];
        CHECK(mrc_vectors_index(ctx, folder, &v, &desc) == MRC_OK
              && mrc_dense_open(ctx, &d, folder, 0) == MRC_OK, "form %d: %s", form, message);
        q.rows[9] = NAN;
        CHECK(mrc_dense_search(d, &q, 3, &config, hits, n_hits) == MRC_ERR_NUMERIC
              && strstr(message, "queries: row 1 has a number that is not finite"),
              "form %d: %s", form, message);
        mrc_ctx_clear_error(ctx);
        mrc_dense_close(d);
        v.rows[20] = -INFINITY;
        CHECK(mrc_vectors_index(ctx, folder, &v, &desc) == MRC_ERR_NUMERIC
              && strstr(message, "index: row 2 has a number"), "form %d: %s", form, message);
        mrc_ctx_clear_error(ctx);
        drop(&v);
        drop(&q);
    }
}

//==============================================================================
// Fusion and measures
//==============================================================================
static void test_fuse(void) {
    const mrc_hit a[] = { { 3, 9 }, { 1, 5 }, { 2, 4 } }, b[] = { { 2, .5 }, { 4, .4 } };
    const mrc_hits runs[] = { { a, 3 }, { b, 2 } };
    mrc_hit out[5];
    size_t n = 0;
    mrc_fuse_desc desc = { .method = MRC_FUSE_RRF };
    CHECK(mrc_fuse(ctx, &desc, runs, 2, out, &n) == MRC_OK && n == 4, "rrf: %zu", n);
    CHECK(out[0].passage == 2 && fabs(out[0].score - (1 / 63. + 1 / 61.)) < 1e-15
          && out[1].passage == 3 && out[2].passage == 1 && out[3].passage == 4
          && fabs(out[3].score - 1 / 62.) < 1e-15, "rrf");
    desc.method = MRC_FUSE_MINMAX;
    mrc_fuse(ctx, &desc, runs, 2, out, &n);
    CHECK(out[0].passage == 2 && fabs(out[0].score - 1) < 1e-15 && out[1].passage == 3
          && fabs(out[1].score - 1) < 1e-15 && out[2].passage == 1
          && fabs(out[2].score - .2) < 1e-15 && out[3].passage == 4 && fabs(out[3].score) < 1e-15,
          "minmax");
    const double weights[] = { 1, 2 };
    desc = (mrc_fuse_desc){ .method = MRC_FUSE_RAW, .weights = weights };
    mrc_fuse(ctx, &desc, runs, 2, out, &n);
    CHECK(out[0].passage == 3 && fabs(out[0].score - 9.8) < 1e-14 && out[3].passage == 4
          && fabs(out[3].score - 4.8) < 1e-14, "raw: absent is the least");
    desc = (mrc_fuse_desc){ .method = MRC_FUSE_ZSCORE, .depth = 1 };
    mrc_fuse(ctx, &desc, runs, 2, out, &n);
    CHECK(n == 2 && out[0].passage == 2 && fabs(out[0].score) < 1e-15, "one score counts 0");
    desc.depth = 0;
    mrc_fuse(ctx, &desc, runs, 2, out, &n);
    double deviation = sqrt((9 + 1 + 4) / 3.);
    CHECK(out[0].passage == 3 && fabs(out[0].score - (3 / deviation - 1)) < 1e-12, "zscore: %.17g",
          out[0].score);
}

// What a passage without rows has says nothing of the others.
static void test_fuse_infinite(void) {
    const mrc_hit a[] = { { 1, 5 }, { 2, 3 }, { 9, -HUGE_VAL } }, b[] = { { 9, 2 }, { 2, 1 } };
    const mrc_hits runs[] = { { a, 3 }, { b, 2 } };
    mrc_hit out[5];
    size_t n = 0;
    mrc_fuse_desc desc = { .method = MRC_FUSE_ZSCORE };
    CHECK(mrc_fuse(ctx, &desc, runs, 2, out, &n) == MRC_OK && n == 3, "%zu", n);
    CHECK(out[0].passage == 1 && out[0].score == 0 && out[1].passage == 9 && out[1].score == 0
          && out[2].passage == 2 && out[2].score == -2, "%g %g %g", out[0].score, out[1].score,
          out[2].score);
    desc.method = MRC_FUSE_MINMAX;
    mrc_fuse(ctx, &desc, runs, 2, out, &n);
    CHECK(out[0].score == 1 && out[1].score == 1 && out[2].score == 0, "minmax");
    desc.method = MRC_FUSE_RRF;
    mrc_fuse(ctx, &desc, runs, 2, out, &n);
    CHECK(out[0].passage == 9 && fabs(out[0].score - (1 / 63. + 1 / 61.)) < 1e-15, "rrf: ranks");
}

//==============================================================================
// A reranker's share of the score (tools/stages.h)
//==============================================================================
// Scores of 1, 2, 3, of the reranker 4, 2, 0: z-scores of -z, 0, z and z, 0, -z.
static void test_rerank_weight(void) {
    static const struct { double weight; uint32_t order[4]; double first; } cases[] = {
        { 1, { 7, 5, 3, 4 }, 4 }, { .5, { 3, 5, 7, 4 }, 0 }, { .75, { 7, 5, 3, 4 }, .5 },
        { 0, { 3, 5, 7, 4 }, 1 }, { .25, { 3, 5, 7, 4 }, .5 } };
    const double z = sqrt(1.5);             // of the least and the greatest of three in equal steps
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        stage_hit hits[4] = { { .passage = 7, .score = 1 }, { .passage = 3, .score = 3 },
                              { .passage = 5, .score = 2 }, { .passage = 4, .score = -9 } };
        hits[0].stage[STAGE_RERANK] = 4;
        hits[1].stage[STAGE_RERANK] = 0;
        hits[2].stage[STAGE_RERANK] = 2;
        CHECK(stages_reorder(ctx, hits, 3, cases[i].weight) == MRC_OK, "case %zu", i);
        for (int k = 0; k < 4; k++) {
            CHECK(hits[k].passage == cases[i].order[k], "weight %g: %u at %d", cases[i].weight,
                  (unsigned)hits[k].passage, k);
        }
        double first = i ? cases[i].first * z : 4;
        CHECK(fabs(hits[0].score - first) < 1e-15, "weight %g: %.17g, expected %.17g",
              cases[i].weight, hits[0].score, first);
    }
    stage_hit none[2] = { { .passage = 1, .score = 2 }, { .passage = 2, .score = 1 } };
    none[0].stage[STAGE_RERANK] = -HUGE_VAL;
    none[1].stage[STAGE_RERANK] = 3;
    CHECK(stages_reorder(ctx, none, 2, .5) == MRC_OK && none[0].passage == 1
          && none[0].score == .5 && none[1].score == -.5, "a passage without rows: %g %g",
          none[0].score, none[1].score);
    CHECK(stages_reorder(ctx, none, 0, .5) == MRC_OK, "no hits");
}

// Lines of a run or of judgements as text: "query passage score; ..".
static const char *run_text(const mrc_run *r) {
    static char out[512];
    size_t at = 0;
    out[0] = 0;
    for (size_t i = 0; i < r->n && at < sizeof out; i++) {
        at += (size_t)snprintf(out + at, sizeof out - at, "%s%s %s %g", i ? "; " : "",
                               r->list[i].query, r->list[i].passage, r->list[i].score);
    }
    return out;
}

// What search writes and what others write, in the order that counts; each passage once.
static void test_run_files(void) {
    static const struct { const char *why, *text, *run, *qrels; } cases[] = {
        { "trec", "b Q0 x 1 2 t\na Q0 y 1 3 t\na Q0 x 2 3 t\nb Q0 y 2 9\n",
          "a y 3; a x 3; b y 9; b x 2", ":1: found 6 fields (expected query, 0, passage" },
        { "ms marco", "1\t7\t1\r\n\r\n1\t9\t2\r\n", "1 7 -1; 1 9 -2", "1 7 1; 1 9 2" },
        { "beir", "query-id\tcorpus-id\tscore\n2\ta\t1\n1\tb\t.5\n", "1 b -0.5; 2 a -1",
          "1 b 0.5; 2 a 1" },
        { "infinite", "a Q0 x 1 inf t\na Q0 z 3 -inf t\na Q0 y 2 -1e+2 t\n",
          "a x inf; a y -100; a z -inf", ":1: found 6 fields" },
        { "again", "a Q0 x 1 5 t\na Q0 y 2 4 t\na Q0 x 3 6 t\n", "a x 6; a y 4", ":1: found 6" },
        { "judged again", "a 0 x 1\na 0 y 1\na 0 x 0\n", ":1: found 4 fields (expected query, Q0",
          "a x 0; a y 1" },
        { "byte order marks", "\xef\xbb\xbf" "b 0 x 1\n\xef\xbb\xbf \xef\xbb\xbf" "a 0 x 1\n",
          ":1: found 4 fields", "a x 1; b x 1" },
        { "nan", "a Q0 x 1 nan t\n", ":1: found 6 fields, and no number", ":1: found 6 fields" },
        { "no number", "a b 1\na b c\n", ":2: found 3 fields, and no number",
          ":2: found 3 fields, and no number" },
        { "too large", "a b -1e10\n", "a b 1e+10", ":1: found a relevance of -1e+10" },
        { "overflow", "a b 1e999\n", "a b -inf", ":1: found a relevance of inf" },
        { "far too large", "a b 1e101\n", ":1: found a score of 1e+101", ":1: found a relevance" },
        { "one field", "a\n", ":1: found 1 field (expected", ":1: found 1 field (expected" },
        { "no text", "a b 1\n\xff c 1\n", "the byte at offset 6 is no UTF-8", "offset 6" },
        { "packed", "\x1f\x8b\x08", "found", "found" }, { "empty", "\n", "", "" } };
    for (size_t i = 0; i < 2 * (sizeof cases / sizeof *cases); i++) {
        const char *want = i % 2 ? cases[i / 2].qrels : cases[i / 2].run;
        const char *path = file_new("made.run", cases[i / 2].text);
        mrc_run r;
        *message = 0;
        mrc_status s = i % 2 ? mrc_qrels_load(ctx, &r, path) : mrc_run_load(ctx, &r, path);
        CHECK(s == MRC_OK ? !strcmp(run_text(&r), want) : s == MRC_ERR_FORMAT && *want
              && strstr(message, want) && !r.text, "%s, %s: %d, \"%s\", %s", cases[i / 2].why,
              i % 2 ? "qrels" : "run", (int)s, run_text(&r), message);
        CHECK(s != MRC_OK || !strstr(cases[i / 2].why, "again") || strstr(message, "again"),
              "%s: nothing is said: %s", cases[i / 2].why, message);
        size_t first, n = mrc_run_of(&r, "a", &first), most = 0;
        for (size_t k = 0; k < r.n; k++) most += !strcmp(r.list[k].query, "a");
        CHECK(n == most && (!n || !strcmp(r.list[first].query, "a")), "%s: %zu lines of a, %zu",
              cases[i / 2].why, n, most);
        mrc_run_free(&r);
        mrc_ctx_clear_error(ctx);
    }
}

// A passage that is hit twice is found once: no measure is above 1.  What would make sums that are
// no numbers is refused.
static void test_measures_bounds(void) {
    const mrc_hit hits[] = { { 1, 4 }, { 1, 3 }, { 2, 2 }, { 1, 1 } };
    mrc_judged judged[] = { { 1, 2 }, { 2, 1 } };
    mrc_rank_result r = { 0 };
    CHECK(mrc_rank_add(ctx, &r, hits, 4, judged, 2) == MRC_OK && r.recall[0] == .5
          && r.recall[1] == 1, "twice: %g %g", r.recall[0], r.recall[1]);
    CHECK(fabs(r.map_100 - (1 + 2 / 3.) / 2) < 1e-15 && r.ndcg_10 < 1, "twice: map %.17g ndcg %g",
          r.map_100, r.ndcg_10);
    judged[0].relevance = 1e300;
    CHECK(mrc_rank_add(ctx, &r, hits, 4, judged, 2) == MRC_ERR_ARG
          && strstr(message, "a relevance of 1e+300"), "relevance: %s", message);
    judged[0].relevance = NAN;
    CHECK(mrc_rank_add(ctx, &r, hits, 4, judged, 2) == MRC_ERR_ARG && r.queries == 1, "nan");
    mrc_ctx_clear_error(ctx);
    const mrc_hit large[] = { { 1, 1e308 }, { 2, -1e308 } };
    const mrc_hits runs[] = { { hits, 4 }, { large, 2 } };
    const double weights[] = { 1e200, 1 };
    mrc_hit out[6];
    size_t n = 0;
    for (int i = 0; i < 2; i++) {
        mrc_fuse_desc desc = { .method = MRC_FUSE_ZSCORE, .weights = i ? weights : NULL };
        CHECK(mrc_fuse(ctx, &desc, runs, i ? 1 : 2, out, &n) == MRC_ERR_ARG
              && strstr(message, i ? "weight of run 1 is 1e+200" : "score of run 2 is 1e+308"),
              "fuse: %s", message);
        mrc_ctx_clear_error(ctx);
    }
}

static void test_measures(void) {
    const mrc_hit hits[] = { { 5, 4 }, { 1, 3 }, { 2, 2 }, { 7, 1 } };
    const mrc_judged judged[] = { { 1, 2 }, { 7, 1 }, { 9, 1 }, { 5, 0 } };
    mrc_rank_result r = { 0 };
    CHECK(mrc_rank_add(ctx, &r, hits, 4, judged, 4) == MRC_OK && r.queries == 1, "add");
    CHECK(r.recall[0] == 0 && fabs(r.recall[1] - 2 / 3.) < 1e-15 && r.success[0] == 0
          && r.success[1] == 1 && r.mrr_10 == .5 && r.reciprocal_rank == .5, "recall, mrr");
    double ideal = 2 + 1 / log2(3) + 1 / log2(4), dcg = 2 / log2(3) + 1 / log2(5);
    CHECK(fabs(r.ndcg_10 - dcg / ideal) < 1e-15, "ndcg %.17g", r.ndcg_10);
    CHECK(fabs(r.map_100 - (.5 + .5) / 3) < 1e-15, "map %.17g", r.map_100);
    CHECK(mrc_rank_add(ctx, &r, NULL, 0, judged, 4) == MRC_OK && r.queries == 2, "no hits");
    CHECK(mrc_rank_add(ctx, &r, hits, 4, judged + 3, 1) == MRC_OK && r.queries == 2, "none right");
}

int main(void) {
    if (!folder_new("dense")) return test_end();
    mrc_backend_cpu_new(&be, &(mrc_backend_desc){ .threads = 2 });
    mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be, .log = keep_message });
    test_npy();
    test_exact();
    test_forms();
    test_exact_many();
    test_graph();
    test_graph_bits();
    test_tokens();
    test_damage();
    test_again();
    test_not_finite();
    test_fuse();
    test_fuse_infinite();
    test_rerank_weight();
    test_run_files();
    test_measures();
    test_measures_bounds();
    mrc_ctx_free(ctx);
    mrc_backend_free(be);
    folder_end();
    return test_end();
}
