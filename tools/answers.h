// What ask, serve and report share: candidates from several passages, scores over a window.
#ifndef ANSWERS_H
#define ANSWERS_H
#include "tool.h"

//==============================================================================
// Candidates: a span of a passage each
//
// A candidate's score is the reader's, start plus end logit, and where passages were looked up the
// weighted sum of that and the BM25 score: both count in nats.  Confidence is the softmax over all
// candidates; equal texts are one answer and share it.
//==============================================================================
typedef struct candidate {
    const mrc_example *passage;
    const mrc_span    *span;
    mrc_span           shown;           // without the space that a token may have before its word
    const char        *text;            // of the span that is shown
    size_t             bytes, place;    // of the passage among those read
    double             score, confidence;
} candidate;

static int candidate__by_score(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->score > y->score || x->score < y->score) return x->score > y->score ? -1 : 1;
    if (x->place != y->place) return x->place < y->place ? -1 : 1;
    return x->span < y->span ? -1 : x->span > y->span;
}

// Gives candidates their confidence and leaves one of each text: how many.
static size_t candidate__merge(candidate *list, size_t n, double temperature) {
    double sum = 0;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        list[i].confidence = exp((list[i].score - list[0].score) / temperature);
        sum += list[i].confidence;
    }
    for (size_t i = 0; i < n; i++) {
        candidate c = list[i], *same = NULL;
        c.confidence /= sum;
        for (size_t j = 0; j < kept && !same; j++) {
            candidate *other = &list[j];
            if (other->bytes == c.bytes && !memcmp(other->text, c.text, c.bytes)) same = other;
        }
        if (same) same->confidence += c.confidence;
        else list[kept++] = c;
    }
    return kept;
}

// All spans of n passages that were read, best first; list has room for them.  hits: what the
// passages scored, counting with weight; NULL: one was given.  Where the reader may say that there
// is no answer, a passage that does stands for that only; where no passage has one, 0 are found.
TOOL_DEF size_t candidates_find(candidate *list, const mrc_example *passages,
                                const mrc_reply *replies, const mrc_hit *hits, size_t n,
                                double weight, double temperature) {
    size_t count = 0;
    if (!hits) weight = 0;
    for (size_t i = 0; i < n; i++) {
        const mrc_reply *reply = &replies[i];
        if (reply->answer->kind != MRC_SPAN_TEXT) continue;
        for (size_t s = 0; s < reply->n_spans; s++) {
            const mrc_span *span = &reply->spans[s];
            candidate *c = &list[count];
            if (span->kind != MRC_SPAN_TEXT || span->begin >= span->end) continue;
            *c = (candidate){ .passage = &passages[i], .span = span, .place = i };
            c->shown = mrc_span_trimmed(span, c->passage);
            c->text = mrc_span_text(&c->shown, c->passage, NULL, &c->bytes);
            c->score = (1 - weight) * (double)(span->start_logit + span->end_logit);
            if (hits) c->score += weight * hits[i].score;
            count++;
        }
    }
    qsort(list, count, sizeof *list, candidate__by_score);
    return count ? candidate__merge(list, count, temperature) : 0;
}

//==============================================================================
// Scores over a window
//==============================================================================
TOOL_DEF void window_softmax(const float *logits, size_t n, double *out) {
    double high = -HUGE_VAL, sum = 0;
    for (size_t i = 0; i < n; i++) high = fmax(high, (double)logits[i]);
    for (size_t i = 0; i < n; i++) sum += out[i] = exp((double)logits[i] - high);
    for (size_t i = 0; i < n; i++) out[i] /= sum;
}

// The window where a span has its logits: the one with the greatest sum over it.
TOOL_DEF size_t window_of(const mrc_window_logits *windows, size_t n, const mrc_span *span) {
    size_t window = 0;
    double most = -HUGE_VAL;
    for (size_t w = 0; w < n; w++) {
        const mrc_feature *f = windows[w].feature;
        double start = -HUGE_VAL, end = -HUGE_VAL;
        for (int32_t i = 0; i < f->length; i++) {
            if (f->offset_mapping[i][0] < 0) continue;
            if (f->offset_mapping[i][0] == span->begin) start = (double)windows[w].start[i];
            if (f->offset_mapping[i][1] == span->end) end = (double)windows[w].end[i];
        }
        if (start + end > most) {
            most = start + end;
            window = w;
        }
    }
    return window;
}

#endif
