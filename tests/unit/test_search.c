// Passages, analyzers, the index on disk and BM25, against plain loops over the formulas.
// tags: threads
#include "../support/cases.h"
#include "../support/folder.h"
#include <sys/stat.h>


static mrc_ctx *ctx_new(void) {
    mrc_ctx *ctx;
    return mrc_ctx_new(&ctx, NULL) == MRC_OK ? ctx : NULL;
}

//==============================================================================
// Passages
//==============================================================================
typedef struct passage_case { const char *text, *key, *ids, *texts, *titles, *wrong; }
    passage_case;
static const passage_case passage_cases[] = {
    { "{\"id\": \"a\", \"title\": \"T\", \"text\": \"x y\"}\n\n{\"id\": 7, \"context\": \"z\"}\n",
      NULL, "a 7", "x y|z", "T|", NULL },
    { "{\"_id\": \"b1\", \"title\": \"\", \"text\": \"beir\", \"metadata\": {}}\n"
      "{\"contents\": \"no id\"}", NULL, "b1 1", "beir|no id", "|", NULL },
    { "{\"0\": {\"text\": \"p\", \"title\": \"t\", \"document_id\": 5}, \"1\": {\"text\": \"q\"}}",
      NULL, "5 1", "p|q", "t|", NULL },
    { "[{\"id\": \"1\", \"text\": \"p\"}]", NULL, "1", "p", "", NULL },
    { "{\"id\": \"1\", \"text\": \"alone\"}", NULL, "1", "alone", "", NULL },
    { "{\"id\": \"1\", \"question\": \"q?\", \"context\": \"c\"}", "question", "1", "q?", "",
      NULL },
    { "id\ttext\ttitle\n1\t\"say \"\"hi\"\"\tnow\"\tA\r\n2\tplain\tB\n", NULL, "1 2",
      "say \"hi\"\tnow|plain", "A|B", NULL },
    { "q1\twho?\nq2\twhere?", NULL, "q1 q2", "who?|where?", "|", NULL },
    { "\xef\xbb\xbf{\"id\": \"1\", \"text\": \"bom\"}\n{\"id\": \"2\", \"text\": \"x\"}\n", NULL,
      "1 2", "bom|x", "|", NULL },
    { "{\"id\": \"1\", \"text\": \"x\"}\n{\"id\": \"2\"}\n", NULL, NULL, NULL, NULL, ":2:1: " },
    { "{\"id\": \"1\", \"text\": \"x\"}\n{\"id\": }\n", NULL, NULL, NULL, NULL, ":2:8: " },
    { "a\tb\nonly\n", NULL, NULL, NULL, NULL, ":2: " },
    { "a\t\"open\n", NULL, "a", "\"open", "", NULL },
    { "id\ttext\ttitle\n1\t\"open\n\n", NULL, NULL, NULL, NULL, ":2: " },
    { "a\tb\tc\td\n", NULL, NULL, NULL, NULL, ":1: " },
    { "a\tb\nc\td \xed\xa0\x80\n", NULL, NULL, NULL, NULL, ":2: ill-formed UTF-8, byte 0xed" },
};

static void test_passages(void) {
    for (size_t i = 0; i < sizeof passage_cases / sizeof *passage_cases; i++) {
        const passage_case *c = &passage_cases[i];
        mrc_ctx *ctx = ctx_new();
        mrc_passages *p = NULL;
        mrc_text found[3];
        mrc_status s = mrc_passages_load(ctx, &p, file_new("passages", c->text), c->key);
        if (c->wrong) {
            CHECK(s == MRC_ERR_FORMAT && !p && strstr(mrc_ctx_message(ctx), c->wrong),
                  "case %zu: %d %s", i, s, mrc_ctx_message(ctx));
            mrc_ctx_free(ctx);
            continue;
        }
        CHECK(s == MRC_OK, "case %zu: %s", i, mrc_ctx_message(ctx));
        for (int k = 0; k < 3; k++) mrc_text_init(&found[k], ctx);
        for (size_t k = 0; p && k < mrc_passages_size(p); k++) {
            const mrc_passage *x = mrc_passages_at(p, k);
            mrc_text_printf(&found[0], "%s%s", k ? " " : "", x->id);
            mrc_text_printf(&found[1], "%s%s", k ? "|" : "", x->text);
            mrc_text_printf(&found[2], "%s%s", k ? "|" : "", x->title);
            CHECK(x->text_bytes == strlen(x->text), "case %zu: bytes", i);
        }
        CHECK(found[0].data && !strcmp(found[0].data, c->ids), "case %zu: %s", i, found[0].data);
        CHECK(found[1].data && !strcmp(found[1].data, c->texts), "case %zu: %s", i, found[1].data);
        CHECK(found[2].data && !strcmp(found[2].data, c->titles), "case %zu: %s", i,
              found[2].data);
        for (int k = 0; k < 3; k++) mrc_text_free(&found[k]);
        mrc_passages_free(p);
        mrc_ctx_free(ctx);
    }
}

static void test_unique(void) {
    mrc_ctx *ctx = ctx_new();
    mrc_passages *p = NULL;
    mrc_passages_load(ctx, &p, file_new("twins", "1\ta\n2\tb\n3\ta\n4\tab\n5\tb\n6\ta\n"), NULL);
    if (CHECK(p != NULL, "%s", mrc_ctx_message(ctx))) {
        CHECK(mrc_passages_unique(p) == 3 && mrc_passages_size(p) == 3, "twins");
        CHECK(!strcmp(mrc_passages_at(p, 0)->id, "1") && !strcmp(mrc_passages_at(p, 1)->id, "2")
              && !strcmp(mrc_passages_at(p, 2)->id, "4"), "the first of each stays");
    }
    mrc_passages_free(p);
    mrc_ctx_free(ctx);
}

//==============================================================================
// Analyzers
//==============================================================================
static void collect(void *user, const char *s, size_t bytes) {
    mrc_text_add(user, s, bytes);
    mrc_text_add(user, "|", 1);
}

static void test_analyzers(void) {
    static const struct { mrc_analyzer kind; const char *text, *terms; } cases[] = {
        { MRC_ANALYZER_WHITESPACE, "  A b\t\nc\xc2\xa0" "d\xe3\x80\x80" "e\x1c" "f ",
          "A|b|c|d|e|f|" },
        { MRC_ANALYZER_WHITESPACE, "\xe2\x80\x8b x\xff\xe3", "\xe2\x80\x8b|x\xff\xe3|" },
        { MRC_ANALYZER_WHITESPACE, "", "" },
        { MRC_ANALYZER_CHAR_BIGRAM, "서울시 a bc 가", "서울|울시|a|bc|가|" },
        { MRC_ANALYZER_CHAR_BIGRAM, "\xff\xff\xff", "\xff\xff|\xff\xff|" },
        { MRC_ANALYZER_KOREAN, "서울에서는 \"대학교\"를", "서울|서울_|대학|학교|대학교_|를|를_|" },
        { MRC_ANALYZER_KOREAN, "BERT-base가 2019년에", "bert|base|가|가_|2019|년에|년에_|" },
        { MRC_ANALYZER_KOREAN, "나는, 가", "나는|나는_|가|가_|" },
        { MRC_ANALYZER_KOREAN, "\xff\xea 「집」", "집|집_|" },
        // What Lucene's EnglishAnalyzer gives.
        { MRC_ANALYZER_ENGLISH, "The Relational databases' conditions weren't hopping: it's "
          "valley's.", "relat|databas|condit|weren't|hop|vallei|" },
        { MRC_ANALYZER_ENGLISH, "caresses ponies ties cats agreed plastered bled motoring sing "
          "conflated troubled sized hissing failing filing happy sky",
          "caress|poni|ti|cat|agre|plaster|bled|motor|sing|conflat|troubl|size|hiss|fail|file|"
          "happi|sky|" },
        { MRC_ANALYZER_ENGLISH, "vietnamization predication operator feudalism decisiveness "
          "hopefulness callousness formality sensitivity sensibility analogies",
          "vietnam|predic|oper|feudal|decis|hope|callous|formal|sensit|sensibl|analog|" },
        { MRC_ANALYZER_ENGLISH, "triplicate electricity adjustable defensible irritant replacement "
          "adoption communism controlling roll probate rate cease by yes",
          "triplic|electr|adjust|defens|irrit|replac|adopt|commun|control|roll|probat|rate|ceas|"
          "ye|" },
        { MRC_ANALYZER_ENGLISH, "3.14 1,000 U.S. a_b __ x:y 나는 漢字 ÉTÉS 5½ km² dog’s",
          "3.14|1,000|u.|a_b|x:y|나는|漢|字|été|5|km|dog|" },
        { MRC_ANALYZER_ENGLISH, "and the s ss yy 's \xff\xe2", "s|ss|yy|s|" },
        { MRC_ANALYZER_ENGLISH, "e\xef\xbb\xbf co\xc2\xad" "op", "e\xef\xbb\xbf|co\xc2\xad" "op|" },
    };
    mrc_ctx *ctx = ctx_new();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mrc_text found;
        mrc__locked locked = { .inner = ctx->host };
        mrc__an an;
        mrc_text_init(&found, ctx);
        pthread_mutex_init(&locked.lock, NULL);
        mrc__an_begin(&an, cases[i].kind, NULL, &locked);
        an.emit = collect;
        an.user = &found;
        mrc__an_run(&an, cases[i].text, strlen(cases[i].text));
        mrc__an_end(&an);
        pthread_mutex_destroy(&locked.lock);
        CHECK(!strcmp(found.data ? found.data : "", cases[i].terms), "case %zu: %s, expected %s",
              i, found.data ? found.data : "", cases[i].terms);
        mrc_text_free(&found);
    }
    mrc_ctx_free(ctx);
}

//==============================================================================
// Scores: passages of few words, so that some are in more than half of them; more passages than
// mrc_search sums at a time
//==============================================================================
enum { DOCS = MRC__SE_BLOCK + 200, WORDS = 40, QUERIES = 30, LENGTH = 60 };
static int doc_words[DOCS][LENGTH], doc_length[DOCS];
static int query_words[QUERIES][80], query_length[QUERIES];

static int word_at(double skew) {
    double x = (test_random() + 1) / 2;
    return (int)(pow(x, skew) * WORDS);
}

static void corpus_new(mrc_text *text) {
    for (int d = 0; d < DOCS; d++) {
        doc_length[d] = d % 17 == 16 ? 0 : 1 + (int)((test_random() + 1) / 2 * (LENGTH - 1));
        mrc_text_printf(text, "d%d\t", d);
        for (int i = 0; i < doc_length[d]; i++) {
            doc_words[d][i] = word_at(2);
            mrc_text_printf(text, "%sw%d", i ? " " : "", doc_words[d][i]);
        }
        mrc_text_printf(text, "\n");
    }
    for (int q = 0; q < QUERIES; q++) {
        query_length[q] = q == 0 ? 0 : q == 1 ? 80 : 1 + q % 7;    // more than 64 words too
        for (int i = 0; i < query_length[q]; i++) query_words[q][i] = word_at(1) + (q % 5 == 4);
    }
}

// PARITY 3.10, one method after the other, from counts.
static double slow_score(mrc_bm25 method, int tf, int df, int dl, double avg, double filled_avg,
                         int filled, double mean_idf) {
    double n = DOCS, k1 = method == MRC_BM25_ELASTICSEARCH ? 1.2 : 1.5, b = 0.75;
    double x = 1 - b + b * dl / avg, c = tf / x, part = tf / (k1 * x + tf), delta = 0.5, idf;
    switch (method) {
    case MRC_BM25_OKAPI:
        idf = log(n - df + 0.5) - log(df + 0.5);
        return (idf < 0 ? 0.25 * mean_idf : idf) * part * (k1 + 1);
    case MRC_BM25_L:
        return tf ? (log(n + 1) - log(df + 0.5)) * (k1 + 1) * (c + delta) / (k1 + c + delta) : 0;
    case MRC_BM25_L_RANK_BM25:
        return tf * ((log(n + 1) - log(df + 0.5)) * (k1 + 1) * (c + delta) / (k1 + c + delta));
    case MRC_BM25_PLUS:     return log((n + 1) / df) * (1 + part * (k1 + 1));
    case MRC_BM25_LUCENE:   return log(1 + (n - df + 0.5) / (df + 0.5)) * part;
    case MRC_BM25_ROBERTSON: return log(fmax((n - df + 0.5) / (df + 0.5), 1)) * part;
    case MRC_BM25_ATIRE:    return log(n / df) * part * (k1 + 1);
    case MRC_BM25_BM25S_L:
        return log((n + 1) / (df + 0.5)) * (k1 + 1) * (c + delta) / (k1 + c + delta);
    case MRC_BM25_BM25S_PLUS: return log((n + 1) / df) * (part * (k1 + 1) + delta);
    case MRC_BM25_ELASTICSEARCH:
        idf = log(1 + (filled - df + 0.5) / (df + 0.5));
        // Lengths to 40 are exact, 41 to 55 go by two, then by four.
        dl = dl < 40 ? dl : dl < 56 ? dl - dl % 2 : dl - dl % 4;
        return idf - idf / (1 + tf / (k1 * (1 - b + b * dl / filled_avg)));
    }
    return NAN;
}

// What is counted of all documents.
typedef struct counts {
    int    tf[DOCS][WORDS + 1], df[WORDS + 1], filled;
    double tokens, mean_idf, terms;
} counts;

static void count_documents(counts *c) {
    memset(c, 0, sizeof *c);
    for (int d = 0; d < DOCS; d++) {
        for (int i = 0; i < doc_length[d]; i++) {
            c->df[doc_words[d][i]] += !c->tf[d][doc_words[d][i]]++;
        }
        c->tokens += doc_length[d];
        c->filled += doc_length[d] > 0;
    }
    for (int w = 0; w < WORDS; w++) {
        if (!c->df[w]) continue;
        c->mean_idf += log(DOCS - c->df[w] + 0.5) - log(c->df[w] + 0.5);
        c->terms++;
    }
}

// Every document's score for a query, and how many of them match it.
static size_t slow_scores(const counts *n, mrc_bm25 method, int q, double *scores) {
    size_t matching = 0;
    for (int d = 0; d < DOCS; d++) {
        int has = 0;
        scores[d] = 0;
        for (int i = 0; i < query_length[q]; i++) {
            int w = query_words[q][i];
            if (!n->df[w]) continue;
            scores[d] += slow_score(method, n->tf[d][w], n->df[w], doc_length[d],
                                    n->tokens / DOCS, n->tokens / n->filled, n->filled,
                                    n->mean_idf / n->terms);
            has |= n->tf[d][w] > 0 && !(method == MRC_BM25_ROBERTSON && 2 * n->df[w] >= DOCS);
        }
        matching += (size_t)has;
    }
    return matching;
}

static void check_method(mrc_ctx *ctx, mrc_index *ix, mrc_bm25 method, size_t threads) {
    static counts counted;
    double worst = 0;
    enum { K = 12 };
    static mrc_hit hits[QUERIES * K], again[QUERIES * K];
    size_t n_hits[QUERIES], n_again[QUERIES];
    mrc_query queries[QUERIES];
    static char text[QUERIES][512];
    count_documents(&counted);
    for (int q = 0; q < QUERIES; q++) {
        size_t at = 0;
        for (int i = 0; i < query_length[q]; i++) {
            at += (size_t)snprintf(text[q] + at, sizeof text[q] - at, " w%d", query_words[q][i]);
        }
        queries[q] = (mrc_query){ text[q], at };
    }
    mrc_search_config c = mrc_search_config_default(method);
    mrc_searcher *s = NULL;
    c.threads = threads;
    if (!CHECK(mrc_searcher_new(ctx, &s, ix, &c) == MRC_OK
               && mrc_search(s, queries, QUERIES, K, hits, n_hits) == MRC_OK
               && mrc_search(s, queries, QUERIES, K, again, n_again) == MRC_OK, "%s",
               mrc_ctx_message(ctx))) return;
    double bound = method == MRC_BM25_ELASTICSEARCH ? 2e-5 : 1e-11;
    int wrong = 0;
    for (int q = 0; q < QUERIES; q++) {
        double scores[DOCS], last = HUGE_VAL;
        size_t matching = slow_scores(&counted, method, q, scores), taken = 0;
        wrong += n_hits[q] != (matching < K ? matching : K) || n_again[q] != n_hits[q];
        for (size_t i = 0; i < n_hits[q]; i++) {
            const mrc_hit *h = &hits[q * K + (int)i], *second = &again[q * K + (int)i];
            wrong += h->passage != second->passage || h->score < second->score
                  || h->score > second->score;          // terms that are known by now
            double e = fabs(h->score - scores[h->passage]);
            if (!(e <= worst)) worst = e;
            // Falling, ties by place, and nothing better is left out.
            wrong += h->score > last || (i && h->score >= last && h->passage < h[-1].passage);
            last = h->score;
        }
        for (int d = 0; d < DOCS && n_hits[q] == K; d++) {
            taken += scores[d] > last + 2 * bound;
        }
        wrong += taken > K - 1;
    }
    CHECK(wrong == 0 && worst <= bound, "method %d, %zu threads: %d wrong, error %g", (int)method,
          threads, wrong, worst);
    mrc_searcher_free(s);
}

// Bytes of a file as a CRC.
static uint32_t crc_of(mrc_ctx *ctx, const char *path) {
    uint32_t crc = 0;
    uint64_t bytes;
    mrc_file_crc32c(ctx, path, &crc, &bytes);
    return crc;
}

static void test_scores(void) {
    mrc_ctx *ctx = ctx_new();
    mrc_passages *p = NULL;
    mrc_index *ix = NULL;
    mrc_text text, room;
    mrc_passage x;
    uint32_t crc[2];
    mrc_text_init(&text, ctx);
    mrc_text_init(&room, ctx);
    corpus_new(&text);
    mrc_passages_load(ctx, &p, file_new("corpus.tsv", text.data), NULL);
    for (size_t i = 0; i < 2; i++) {
        mrc_index_desc desc = { .passages = p, .threads = 1 + 2 * i };
        CHECK(mrc_index_new(ctx, path_of("index"), &desc) == MRC_OK, "%s", mrc_ctx_message(ctx));
        crc[i] = crc_of(ctx, path_of("index/index.bin"));
    }
    CHECK(crc[0] == crc[1], "another number of threads, another file");
    if (CHECK(mrc_index_open(ctx, &ix, path_of("index")) == MRC_OK, "%s", mrc_ctx_message(ctx))) {
        CHECK(mrc_index_size(ix) == DOCS && mrc_index_check(ix) == MRC_OK, "opened");
        for (int m = MRC_BM25_OKAPI; m <= MRC_BM25_ELASTICSEARCH; m++) {
            check_method(ctx, ix, (mrc_bm25)m, 1);
            check_method(ctx, ix, (mrc_bm25)m, 3);
        }
        for (size_t i = 0; i < DOCS; i++) {
            const mrc_passage *own = mrc_passages_at(p, i);
            CHECK(mrc_index_passage(ix, i, &room, &x) == MRC_OK && !strcmp(x.id, own->id)
                  && !strcmp(x.text, own->text) && x.text_bytes == own->text_bytes, "passage %zu",
                  i);
        }
        CHECK(mrc_index_passage(ix, DOCS, &room, &x) == MRC_ERR_ARG, "past the end");
    }
    mrc_index_close(ix);
    mrc_passages_free(p);
    mrc_text_free(&text);
    mrc_text_free(&room);
    mrc_ctx_free(ctx);
}

// Wordpiece takes its vocabulary along.
static void test_wordpiece(void) {
    mrc_ctx *ctx = ctx_new();
    mrc_passages *p = NULL;
    mrc_index *ix = NULL;
    mrc_searcher *s = NULL;
    mrc_hit hits[4];
    size_t n_hits = 0;
    mrc_query q = { "bb", 2 };
    mrc_search_config c = mrc_search_config_default(MRC_BM25_LUCENE);
    const char *vocab = file_new("vocab.txt", "[CLS]\n[PAD]\n[SEP]\n[UNK]\n[MASK]\na\nb\n##b\nc\n");
    mrc_passages_load(ctx, &p, file_new("pieces", "1\ta c\n2\tab\n3\tc b\n"), NULL);
    mrc_index_desc desc = { .passages = p, .analyzer = MRC_ANALYZER_WORDPIECE };
    CHECK(mrc_index_new(ctx, path_of("pieces_ix"), &desc) == MRC_ERR_ARG, "no tokenizer");
    mrc_ctx_clear_error(ctx);
    desc.tokenizer = vocab;
    CHECK(mrc_index_new(ctx, path_of("pieces_ix"), &desc) == MRC_OK
          && mrc_index_open(ctx, &ix, path_of("pieces_ix")) == MRC_OK
          && mrc_searcher_new(ctx, &s, ix, &c) == MRC_OK
          && mrc_search(s, &q, 1, 4, hits, &n_hits) == MRC_OK, "%s", mrc_ctx_message(ctx));
    // b ##b: passage 3 has b, passage 2 has ##b.
    CHECK(n_hits == 2 && hits[0].passage + hits[1].passage == 3 && mrc_index_terms(ix) == 4,
          "%zu hits", n_hits);
    mrc_searcher_free(s);
    mrc_index_close(ix);
    mrc_passages_free(p);
    mrc_ctx_free(ctx);
}

//==============================================================================
// Damage: every byte, every length; every allocation
//==============================================================================
// Opens, searches, reads all: the first thing that is not OK.
static mrc_status use(mrc_ctx *ctx, const char *path) {
    mrc_index *ix = NULL;
    mrc_searcher *s = NULL;
    mrc_hit hits[4];
    size_t n_hits[2];
    mrc_query q[2] = { { "a b a zz", 8 }, { "c", 1 } };
    mrc_search_config c = mrc_search_config_default(MRC_BM25_OKAPI);
    c.threads = 1;
    mrc_status status = mrc_index_open(ctx, &ix, path);
    if (status == MRC_OK) status = mrc_searcher_new(ctx, &s, ix, &c);
    if (status == MRC_OK) status = mrc_search(s, q, 2, 2, hits, n_hits);
    if (status == MRC_OK) status = mrc_index_check(ix);
    mrc_text room;
    mrc_passage x;
    mrc_text_init(&room, ctx);
    for (size_t i = 0; status == MRC_OK && i < mrc_index_size(ix); i++) {
        status = mrc_index_passage(ix, i, &room, &x);
    }
    mrc_text_free(&room);
    mrc_searcher_free(s);
    mrc_index_close(ix);
    return status;
}

static void write_bytes(const char *path, const char *data, size_t bytes) {
    FILE *f = fopen(path, "wb");
    if (!f) return;
    fwrite(data, 1, bytes, f);
    fclose(f);
}

static void test_damage(void) {
    mrc_ctx *ctx = ctx_new();
    mrc_passages *p = NULL;
    char *data = NULL;
    size_t bytes = 0, missed = 0;
    mrc_passages_load(ctx, &p, file_new("small", "1\ta b c\ttitle\n2\ta a\n3\tc\n"), NULL);
    mrc_index_desc desc = { .passages = p, .threads = 1 };
    CHECK(mrc_index_new(ctx, path_of("small_ix"), &desc) == MRC_OK
          && mrc_file_read(ctx, &data, &bytes, path_of("small_ix/index.bin")) == MRC_OK
          && use(ctx, path_of("small_ix")) == MRC_OK, "%s", mrc_ctx_message(ctx));
    for (size_t i = 0; data && i < bytes; i++) {
        for (int kind = 0; kind < 3; kind++) {
            mrc_ctx *own = ctx_new();
            size_t left = kind == 2 ? i : bytes;
            char old = data[i];
            data[i] = (char)(kind == 0 ? old ^ 1 : kind == 1 ? ~old : old);
            write_bytes(path_of("small_ix/index.bin"), data, left);
            data[i] = old;
            mrc_status status = use(own, path_of("small_ix"));
            missed += status != MRC_ERR_FORMAT;
            missed += !strstr(mrc_ctx_message(own), "index.bin: ");
            mrc_ctx_free(own);
        }
    }
    CHECK(bytes > 200 && missed == 0, "%zu of %zu bytes", missed, bytes);
    // Checksums that hold over postings that do not: refused, not believed.
    size_t refused = 0, changed = 0;
    for (size_t i = 0; data && i < bytes - sizeof(mrc__ix_end) - 4; i++) {
        for (int bit = 0; bit < 8; bit++) {
            mrc__ix_end end;
            uint32_t crc;
            char *copy = malloc(bytes);
            if (!copy) break;
            memcpy(copy, data, bytes);
            copy[i] = (char)(copy[i] ^ (1 << bit));
            memcpy(&end, copy + bytes - sizeof end, sizeof end);
            crc = mrc_crc32c(0, copy, (size_t)end.at[MRC__IX_SECTIONS]);
            memcpy(copy + end.at[MRC__IX_SECTIONS], &crc, 4);
            end.checksums_crc = mrc_crc32c(0, &crc, 4);
            end.crc = mrc_crc32c(0, &end, offsetof(mrc__ix_end, crc));
            memcpy(copy + bytes - sizeof end, &end, sizeof end);
            write_bytes(path_of("small_ix/index.bin"), copy, bytes);
            free(copy);
            mrc_ctx *own = ctx_new();
            mrc_status status = use(own, path_of("small_ix"));
            refused += status == MRC_ERR_FORMAT;
            changed += status == MRC_OK;
            CHECK(status == MRC_OK || status == MRC_ERR_FORMAT, "byte %zu, bit %d: %s", i, bit,
                  mrc_ctx_message(own));
            mrc_ctx_free(own);
        }
    }
    CHECK(refused > 100 && changed > 100, "%zu refused, %zu taken", refused, changed);
    mrc_file_free(ctx, data);
    mrc_passages_free(p);
    mrc_ctx_free(ctx);
}

static void test_out_of_memory(void) {
    file_new("oom", "1\ta b c\ttitle\n2\ta a\n3\tc\n");
    file_new("vocab.txt", "[CLS]\n[PAD]\n[SEP]\n[UNK]\n[MASK]\na\nb\n");
    for (int kind = 0; kind < 4; kind++) {
        mrc_status status = MRC_ERR_MEM;
        size_t k = 0;
        for (; status != MRC_OK && k < 2000; k++) {
            mrc_ctx_desc desc = { .allocator = { alloc_some, free_some, NULL } };
            mrc_ctx *ctx = NULL;
            mrc_passages *p = NULL;
            allocations_left = k;
            status = mrc_ctx_new(&ctx, &desc);
            if (status == MRC_OK) status = mrc_passages_load(ctx, &p, path_of("oom"), NULL);
            mrc_index_desc id = { .passages = p, .analyzer = (mrc_analyzer)kind, .threads = 1,
                                  .tokenizer = path_of("vocab.txt") };
            if (status == MRC_OK) status = mrc_index_new(ctx, path_of("oom_ix"), &id);
            if (status == MRC_OK) status = use(ctx, path_of("oom_ix"));
            CHECK(status == MRC_OK || status == MRC_ERR_MEM, "allocation %zu: %d %s", k, status,
                  mrc_ctx_message(ctx));
            mrc_passages_free(p);
            mrc_ctx_free(ctx);
        }
        CHECK(k > 20 && status == MRC_OK, "%zu allocations", k);
    }
}

int main(void) {
    if (!folder_new("search")) return test_end();
    test_passages();
    test_unique();
    test_analyzers();
    test_scores();
    test_wordpiece();
    test_damage();
    test_out_of_memory();
    folder_end();
    return test_end();
}
