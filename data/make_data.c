// make_data: writes the demo's Korean extractive-QA dataset, its vocabulary and its model config.
//
//     cc -std=c11 -O2 -o make_data data/make_data.c && ./make_data data
//
// A passage is about one invented person. It states seven of nine facts, in random order and
// wording: at least two places, two years and two people, so that neither the type of an answer nor
// where it stands says which fact is asked for. Everything follows from SEED and the tables below;
// the output is the same on every machine.
//
// Names are joined from two parts, one vocabulary piece each. One combination in eight is set
// aside: validation and the hard split use only those, training only the others, so that no
// subject, place or person of one occurs in the other, while every piece is seen in training.
// Nine relations of three wordings each are what a model of two layers learns from 8,000 examples
// and random weights; a draft with 27 relations was at 0.78 by then.
//
// Notation of the patterns:
//     ^ $      the subject, the answer
//     (은)     a particle as it stands after a consonant; 는 is put after a vowel (see PARTICLES)
//     ~        the verb's ending: -다 at the end of a sentence, -고 or -(으)며 before another clause
//     |        a boundary between two vocabulary pieces inside a word
//     + *      at the start of a statement: it takes a topic ("그는 ..."), a genitive ("그의 ...")
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEED 20240607u
#define COUNT(array) (sizeof(array) / sizeof *(array))

enum {
    TRAIN_PASSAGES = 1000, VALIDATION_PASSAGES = 80, HARD_PASSAGES = 40,
    QUESTIONS_PER_PASSAGE = 5,
    FACTS = 7, VARIANTS = 3,
    MAX_NAME = 64, MAX_VOCAB = 4000,
    MAX_SUBJECTS = TRAIN_PASSAGES + VALIDATION_PASSAGES + 2 * HARD_PASSAGES
};

typedef enum { PLACE, YEAR, PERSON, TYPES } fact_type;

typedef struct {
    fact_type type;
    const char *say[VARIANTS];
    const char *ask[VARIANTS];
} relation;

// ---- names -----------------------------------------------------------------------------------

static const char *const STEMS[] = {
    "가람", "나루", "다온", "라온", "마루", "바람", "새봄", "아라", "하늘", "고운", "노을", "도담",
    "모래", "보람", "소담", "오늘", "초롱", "푸른", "두리", "해솔", "미르", "누리", "단비", "한별",
    "가온", "나래", "다솜", "라임", "마중", "바다", "새별", "아람", "하람", "고랑", "노랑", "도란",
    "모란", "보라", "소라", "오솔", "초록", "풀잎", "두루", "해담", "미리", "누빛", "단풍", "한솔",
    "가을", "나들", "다래", "라솔", "마실", "바위", "새솔", "아침", "하얀", "고래", "노루", "도토",
    "모루", "보배", "소백", "오름", "초원", "푸르", "둥지", "해온", "미소", "누온", "단샘", "한빛",
    "구름", "너울", "달빛", "여울", "이슬", "벼리", "솔빛", "은빛", "채움", "터울", "포근", "윤슬",
};
static const char *const FAMILY[] = {
    "강", "고", "구", "권", "김", "남", "노", "류", "문", "민", "박", "배", "백", "서", "손", "송",
    "신", "안", "양", "오", "유", "윤", "임", "장", "전", "정", "조", "최", "한", "허", "홍", "황",
};
static const char *const GIVEN[] = {
    "서윤", "도준", "하우", "지빈", "유아", "민원", "재연", "태율", "준결", "승담", "연솔", "채린",
    "다온", "라별", "혜진", "정한", "수호", "현희", "보람", "세후", "서진", "도윤", "하준", "지우",
    "유빈", "민아", "재원", "태연", "준율", "승결", "연담", "채솔", "다린", "라온", "혜별", "정호",
    "수진", "현한", "보희", "세람", "서우", "도빈", "하아", "지원", "유연", "민율", "재결", "태담",
};
static const char *const PLACE_KINDS[] = {"시", "군", "읍", "면", "동", "마을", "섬", "항"};

// After a consonant, after a vowel.
static const char *const PARTICLES[][2] = {
    {"은", "는"}, {"이", "가"}, {"을", "를"}, {"과", "와"}, {"이었", "였"},
};
static const char *const ENDINGS[] = {"다", "고", "며", "으며"};

// ---- facts -----------------------------------------------------------------------------------

// How a passage refers back to its subject, and how it opens.
static const char *const TOPIC = "그|는", *const GENITIVE = "그|의";

static const char *const LEADS[] = {
    "^(은) 널리 알려진 소설가이다.", "^(은) 이름난 화가이다.",
    "^(은) 많은 사랑을 받은 작곡가이다.", "^(은) 솜씨 좋은 건축가이다.",
    "^(은) 여러 나라에서 읽히는 시인이다.", "^(은) 나무를 즐겨 다룬 조각가이다.",
    "^(은) 새로운 춤을 만든 무용가이다.", "^(은) 바다를 주로 찍은 사진가이다.",
};

// Years in the order in which they happen.
static const relation RELATIONS[] = {
    {PLACE, {"+$에서 태어났~", "*고향|은 $이~", "+$(을) 고향|으로 두었~"},
     {"^의 고향|은 어디인가?", "^(이) 출생|한 곳|은 어디인가?", "^(은) 어디에서 출생|했는가?"}},
    {PLACE, {"+$에서 자랐~", "+어린 시절|을 $에서 보냈~", "*어린 시절|은 $에서 흘러갔~"},
     {"^(이) 성장|한 곳|은 어디인가?", "^(이) 어린 시절|에 살던 곳|은 어디인가?",
      "^(은) 어디에서 성장|했는가?"}},
    {PLACE, {"+$에서 숨|을 거두었~", "+$에서 세상을 떠났~", "+마지막 숨|을 $에서 거두었~"},
     {"^(이) 사망|한 곳|은 어디인가?", "^(은) 어디에서 사망|했는가?",
      "^(이) 세상을 떠난 곳|은 어디인가?"}},
    {YEAR, {"+$에 유학|을 떠났~", "+$에 유학|길에 올랐~", "*유학|은 $에 시작되었~"},
     {"^(이) 외국|으로 배우러 간 해|는 언제인가?", "^(은) 몇 년에 외국|에서 공부를 시작했는가?",
      "^의 유학|은 언제의 일인가?"}},
    {YEAR, {"+$에 첫 작품|을 내놓았~", "*첫 작품|은 $에 나왔~", "+$에 이름을 알렸~"},
     {"^(이) 데뷔|한 해|는 언제인가?", "^의 데뷔|는 언제의 일인가?",
      "^(은) 몇 년에 데뷔|했는가?"}},
    {YEAR, {"+$에 은퇴|했~", "*은퇴|는 $의 일이었~", "+$에 일|을 접었~"},
     {"^(이) 일|을 그만둔 해|는 언제인가?", "^(은) 몇 년에 일|을 그만두었는가?",
      "^의 은퇴|는 언제의 일인가?"}},
    {PERSON, {"+$에게서 배웠~", "*스승|은 $(이었)~", "+$(을) 스승|으로 모셨~"},
     {"^(을) 가르친 사람|은 누구인가?", "^의 스승|은 누구였는가?",
      "^(은) 누구의 가르침|을 받았는가?"}},
    {PERSON, {"+$(과) 결혼|했~", "*배우자|는 $(이었)~", "+$(을) 배우자|로 맞았~"},
     {"^(과) 혼인|한 사람|은 누구인가?", "^의 배우자|는 누구였는가?",
      "^(은) 누구와 혼인|했는가?"}},
    {PERSON, {"+$(과) 경쟁|했~", "*맞수|는 $(이었)~", "+$(을) 맞수|로 여겼~"},
     {"^의 경쟁|자|는 누구인가?", "^(과) 겨룬 사람|은 누구인가?",
      "^(은) 누구와 경쟁|했는가?"}},
};

// ---- small things ----------------------------------------------------------------------------

static void die(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "make_data: ");
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    exit(5);
}

// splitmix64 (Steele, Lea, Flood 2014): all the randomness there is.
static uint64_t rng_state;

static uint32_t rng_below(size_t n) {
    uint64_t z = (rng_state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (uint32_t)(((z ^ (z >> 31)) >> 32) * (uint64_t)n >> 32);
}

static void rng_shuffle(int *a, int n) {
    for (int i = n - 1; i > 0; i--) {
        int j = (int)rng_below((size_t)i + 1), t = a[i];
        a[i] = a[j];
        a[j] = t;
    }
}

// A text that is long enough for any passage; longer ones are a fault of the tables.
typedef struct {
    char s[4096];
    size_t n;
} text;

static void text_add(text *t, const char *s, size_t n) {
    if (n >= sizeof t->s - t->n) die("a text is longer than %zu bytes", sizeof t->s);
    memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = 0;
}

static void text_put(text *t, const char *s) { text_add(t, s, strlen(s)); }

// Bytes of the UTF-8 character at s.
static size_t char_bytes(const char *s) {
    unsigned char c = (unsigned char)*s;
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

static int count_chars(const char *s, size_t bytes) {
    int n = 0;
    for (size_t i = 0; i < bytes; i += char_bytes(s + i)) n++;
    return n;
}

// Whether the text ends in a syllable with a final consonant: (code - U+AC00) % 28 is its number.
static int has_final(const text *t) {
    if (t->n < 3) return 0;
    const unsigned char *c = (const unsigned char *)t->s + t->n - 3;
    unsigned code = (c[0] & 15u) << 12 | (c[1] & 63u) << 6 | (c[2] & 63u);
    return code >= 0xAC00 && code <= 0xD7A3 && (code - 0xAC00) % 28 != 0;
}

// ---- names -----------------------------------------------------------------------------------

// One combination in eight is held out.
static int is_held_out(uint32_t i, uint32_t j) { return (i * 3 + j) % 8 == 0; }

static void join(const char *const *a, size_t n_a, const char *const *b, size_t n_b, int held_out,
                 char *out) {
    uint32_t i, j;
    do {
        i = rng_below(n_a);
        j = rng_below(n_b);
    } while (is_held_out(i, j) != held_out);
    snprintf(out, MAX_NAME, "%s%s", a[i], b[j]);
}

static void make_place(int held_out, char *out) {
    join(STEMS, COUNT(STEMS), PLACE_KINDS, COUNT(PLACE_KINDS), held_out, out);
}

static void make_person(int held_out, char *out) {
    join(FAMILY, COUNT(FAMILY), GIVEN, COUNT(GIVEN), held_out, out);
}

// A person whom no other passage is about: two passages on one subject would contradict each other.
static char subjects[MAX_SUBJECTS][MAX_NAME];
static int subject_count;

static void make_subject(int held_out, char *out) {
    int k;
    do {
        make_person(held_out, out);
        for (k = 0; k < subject_count && strcmp(subjects[k], out) != 0; k++) {}
    } while (k < subject_count);
    memcpy(subjects[subject_count++], out, MAX_NAME);
}

// ---- patterns --------------------------------------------------------------------------------

// Both forms of the particle written as "(은)".
static const char *const *particle(const char *p) {
    size_t n = strcspn(p + 1, ")");
    for (size_t k = 0; k < COUNT(PARTICLES); k++)
        if (strlen(PARTICLES[k][0]) == n && memcmp(PARTICLES[k][0], p + 1, n) == 0)
            return PARTICLES[k];
    die("unknown particle at %s", p);
    return NULL;
}

static const char *ending(const text *t, int is_last) {
    if (is_last) return "다";
    return has_final(t) ? rng_below(2) ? "으며" : "고" : rng_below(2) ? "며" : "고";
}

// Appends the pattern with its slots filled. *answer_at gets the byte where the answer begins.
static void expand(text *t, const char *pattern, const char *subject, const char *answer,
                   int is_last, size_t *answer_at) {
    const char *p = pattern + (*pattern == '+' || *pattern == '*');
    while (*p) {
        if (*p == '^') {
            text_put(t, subject);
        } else if (*p == '$') {
            *answer_at = t->n;
            text_put(t, answer);
        } else if (*p == '~') {
            text_put(t, ending(t, is_last));
        } else if (*p == '(') {
            text_put(t, particle(p)[!has_final(t)]);
            p = strchr(p, ')');
        } else if (*p != '|') {
            text_add(t, p, 1);
        }
        p++;
    }
}

// ---- vocabulary ------------------------------------------------------------------------------

static const char *const SPECIALS[] = {"[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"};
static char vocab[MAX_VOCAB][MAX_NAME];
static size_t vocab_size;

static int compare_pieces(const void *a, const void *b) { return strcmp(a, b); }

static void vocab_add(int is_inside, const char *s, size_t n) {
    char piece[MAX_NAME];
    if (n == 0) return;
    snprintf(piece, sizeof piece, "%s%.*s", is_inside ? "##" : "", (int)n, s);
    for (size_t i = 0; i < vocab_size; i++)
        if (strcmp(vocab[i], piece) == 0) return;
    if (vocab_size == MAX_VOCAB) die("more than %d pieces", MAX_VOCAB);
    memcpy(vocab[vocab_size++], piece, sizeof piece);
}

// Every character on its own, at the beginning of a word and inside.
static void vocab_add_chars(const char *s) {
    for (; *s; s += char_bytes(s)) {
        if (strchr("^$()~|+*# ", *s)) continue;
        vocab_add(0, s, char_bytes(s));
        if (!strchr(".,?", *s)) vocab_add(1, s, char_bytes(s));
    }
}

// The pieces of a pattern: what stands between spaces, punctuation, slots and bars.
static void vocab_add_pattern(const char *pattern) {
    const char *p = pattern + (*pattern == '+' || *pattern == '*');
    int is_inside = 0;
    while (*p) {
        size_t n = strcspn(p, " .,?^$()~|");
        vocab_add(is_inside, p, n);
        p += n;
        if (*p == '(') {
            for (int k = 0; k < 2; k++) vocab_add(1, particle(p)[k], strlen(particle(p)[k]));
            p = strchr(p, ')');
        }
        is_inside = *p && !strchr(" .,?", *p);
        if (*p) p++;
    }
    vocab_add_chars(pattern);
}

static void vocab_add_list(int is_inside, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        vocab_add(is_inside, list[i], strlen(list[i]));
        vocab_add_chars(list[i]);
    }
}

// Years are two pieces, the century and the year in it, so that unseen years have known pieces.
static void vocab_add_years(void) {
    for (int i = 0; i < 100; i++) {
        char digits[3] = {(char)('0' + i / 10), (char)('0' + i % 10), 0};
        vocab_add(1, digits, 2);
    }
    vocab_add(0, "18", 2);
    vocab_add(0, "19", 2);
    vocab_add_chars("0123456789년");
}

static void vocab_make(void) {
    vocab_add_pattern(TOPIC);
    vocab_add_pattern(GENITIVE);
    for (size_t i = 0; i < COUNT(LEADS); i++) vocab_add_pattern(LEADS[i]);
    for (size_t r = 0; r < COUNT(RELATIONS); r++) {
        for (int i = 0; i < VARIANTS; i++) {
            vocab_add_pattern(RELATIONS[r].say[i]);
            vocab_add_pattern(RELATIONS[r].ask[i]);
        }
    }
    vocab_add_list(0, STEMS, COUNT(STEMS));
    vocab_add_list(1, PLACE_KINDS, COUNT(PLACE_KINDS));
    vocab_add_list(0, FAMILY, COUNT(FAMILY));
    vocab_add_list(1, GIVEN, COUNT(GIVEN));
    vocab_add_list(1, ENDINGS, COUNT(ENDINGS));
    vocab_add_years();
    vocab_add_chars(".,?");
    qsort(vocab, vocab_size, sizeof *vocab, compare_pieces);
}

// Bytes of the longest piece that s (n bytes of one word) begins with; 0 if there is none.
static size_t longest_piece(int is_inside, const char *s, size_t n) {
    char piece[MAX_NAME];
    for (; n > 0; n--) {
        if ((s[n] & 0xC0) == 0x80) continue;
        int length = snprintf(piece, sizeof piece, "%s%.*s", is_inside ? "##" : "", (int)n, s);
        if (length >= (int)sizeof piece) continue;
        if (bsearch(piece, vocab, vocab_size, sizeof *vocab, compare_pieces)) return n;
    }
    return 0;
}

// WordPiece over the text: counts the pieces, and sets whether one begins at `begin` and one ends
// at `end`. A text that the vocabulary cannot spell is a fault.
static int count_pieces(const char *s, size_t begin, size_t end, int *is_span) {
    int n = 0, has_begin = 0, has_end = 0;
    size_t i = 0;
    while (s[i]) {
        size_t word = strcspn(s + i, " .,?"), stop = i + (word ? word : 1);
        int is_inside = 0;
        if (s[i] == ' ') {
            i++;
            continue;
        }
        while (i < stop) {
            size_t k = longest_piece(is_inside, s + i, stop - i);
            if (k == 0) die("no piece for %s", s + i);
            has_begin |= i == begin;
            has_end |= i + k == end;
            i += k;
            is_inside = 1;
            n++;
        }
    }
    *is_span = has_begin && has_end;
    return n;
}

// ---- passages --------------------------------------------------------------------------------

typedef struct {
    char subject[MAX_NAME], answer[MAX_NAME];
    const relation *relation;
    size_t at;              // where the answer begins in the context, in bytes
} fact;

typedef struct {
    text context;
    fact facts[FACTS];
    int fact_count;
} passage;

typedef struct {
    const passage *passage;
    const fact *fact;
    const char *ask;
    int document;
} question;

// Which relations a passage states: as many of each type, and one more of one.
static void choose_relations(fact *facts, int n_facts) {
    int order[COUNT(RELATIONS)], left[TYPES], extra = (int)rng_below(TYPES), n = 0;
    for (int t = 0; t < TYPES; t++) left[t] = n_facts / TYPES + (n_facts % TYPES && t == extra);
    for (int i = 0; i < (int)COUNT(RELATIONS); i++) order[i] = i;
    rng_shuffle(order, COUNT(RELATIONS));
    for (size_t i = 0; i < COUNT(RELATIONS); i++) {
        const relation *rel = &RELATIONS[order[i]];
        if (left[rel->type]-- > 0) facts[n++].relation = rel;
    }
}

// Years grow in the order of the relations, with no two alike.
static void make_years(fact *facts, int n_facts) {
    const relation *done = NULL;
    int year = 1800 + (int)rng_below(80);
    for (;;) {
        fact *next = NULL;
        for (int i = 0; i < n_facts; i++) {
            const relation *rel = facts[i].relation;
            if (rel->type == YEAR && rel > done && (!next || rel < next->relation))
                next = &facts[i];
        }
        if (!next) return;
        year += 6 + (int)rng_below(24);
        snprintf(next->answer, MAX_NAME, "%d년", year);
        done = next->relation;
    }
}

static void make_facts(const char *subject, int held_out, fact *facts, int n_facts) {
    for (int i = 0; i < n_facts; i++) {
        memcpy(facts[i].subject, subject, MAX_NAME);
        if (facts[i].relation->type == PLACE) make_place(held_out, facts[i].answer);
        if (facts[i].relation->type == PERSON) make_person(held_out, facts[i].answer);
    }
    make_years(facts, n_facts);
}

// "S는 ", "그는 ", or nothing, as the statement's mark asks; always the name if by_name.
static void put_head(text *t, const char *say, const char *subject,
                     int by_name) {
    uint32_t form = by_name ? 0 : rng_below(8);
    size_t at = 0;
    if (form < 2) expand(t, *say == '+' ? "^(은) " : "^의 ", subject, "", 0, &at);
    else if (form < 5) {
        expand(t, *say == '+' ? TOPIC : GENITIVE, "", "", 0, &at);
        text_put(t, " ");
    }
}

// States the facts in the given order: alone, or two in one sentence.
static void put_facts(text *t, fact *facts, const int *order, int n,
                      int by_name) {
    int is_second = 0;
    for (int i = 0; i < n; i++) {
        fact *f = &facts[order[i]];
        const char *say = f->relation->say[rng_below(VARIANTS)];
        int is_last = by_name || is_second || i + 1 == n || rng_below(2);
        if (!is_second) put_head(t, say, f->subject, by_name);
        expand(t, say, f->subject, f->answer, is_last, &f->at);
        text_put(t, is_last ? "." : ", ");
        if (is_last && i + 1 < n) text_put(t, " ");
        is_second = !is_last;
    }
}

static int count_occurrences(const char *s, const char *word) {
    int n = 0;
    while ((s = strstr(s, word)) != NULL) {
        n++;
        s++;
    }
    return n;
}

// Every answer stands in the context once, and on the borders of pieces.
static int is_sound(const passage *p) {
    for (int i = 0; i < p->fact_count; i++) {
        const fact *f = &p->facts[i];
        int is_span;
        count_pieces(p->context.s, f->at, f->at + strlen(f->answer), &is_span);
        if (!is_span || count_occurrences(p->context.s, f->answer) != 1) return 0;
        if (strstr(f->subject, f->answer) || strstr(f->answer, f->subject)) return 0;
    }
    return 1;
}

static void put_lead(text *t, const char *subject) {
    size_t at;
    expand(t, LEADS[rng_below(COUNT(LEADS))], subject, "", 1, &at);
    text_put(t, " ");
}

static void make_passage(passage *p, int held_out) {
    char subject[MAX_NAME] = "";
    int order[FACTS];
    make_subject(held_out, subject);
    do {
        memset(p, 0, sizeof *p);
        p->fact_count = FACTS;
        choose_relations(p->facts, FACTS);
        make_facts(subject, held_out, p->facts, FACTS);
        for (int i = 0; i < FACTS; i++) order[i] = i;
        rng_shuffle(order, FACTS);
        put_lead(&p->context, subject);
        put_facts(&p->context, p->facts, order, FACTS, 0);
    } while (!is_sound(p));
}

// Two subjects with the same three relations; every sentence names its subject.
static void make_hard_passage(passage *p) {
    enum { HALF = FACTS / 2 };
    char subject[2][MAX_NAME] = {"", ""};
    int order[FACTS];
    for (int k = 0; k < 2; k++) make_subject(1, subject[k]);
    do {
        memset(p, 0, sizeof *p);
        p->fact_count = 2 * HALF;
        choose_relations(p->facts, HALF);
        for (int k = 0; k < 2; k++) {
            for (int i = 0; i < HALF; i++) p->facts[k * HALF + i].relation = p->facts[i].relation;
            make_facts(subject[k], 1, p->facts + k * HALF, HALF);
            put_lead(&p->context, subject[k]);
        }
        for (int i = 0; i < p->fact_count; i++) order[i] = i;
        rng_shuffle(order, p->fact_count);
        put_facts(&p->context, p->facts, order, p->fact_count, 1);
    } while (!is_sound(p));
}

// ---- files -----------------------------------------------------------------------------------

static int longest_pair;    // pieces of the longest question and context, special tokens included

static FILE *open_file(const char *folder, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f) die("%s: cannot be written: %s", path, strerror(errno));
    return f;
}

static void close_file(FILE *f, const char *name) {
    int failed = ferror(f);
    if (fclose(f) != 0 || failed) die("%s: cannot be written: %s", name, strerror(errno));
}

// One record a line. Nothing in the texts needs escaping.
static void write_record(FILE *f, const question *q, const char *prefix, int number) {
    const fact *a = q->fact;
    const char *context = q->passage->context.s;
    text asked = {.n = 0};
    size_t at = 0;
    int is_span;
    expand(&asked, q->ask, a->subject, "", 1, &at);
    int pieces = 3 + count_pieces(asked.s, 0, 0, &is_span) + count_pieces(context, 0, 0, &is_span);
    if (pieces > longest_pair) longest_pair = pieces;
    fprintf(f, "{\"title\": \"%s\", \"context\": \"%s\", \"question\": \"%s\", "
            "\"id\": \"%s-%05d\", \"answers\": {\"answer_start\": [%d], \"text\": [\"%s\"]}, "
            "\"document_id\": %d}\n",
            a->subject, context, asked.s, prefix, number, count_chars(context, a->at), a->answer,
            q->document);
}

// Makes the passages of a split, asks about some of the facts of each, and writes the questions
// in random order.
static void write_split(const char *folder, const char *name, int n_passages, int held_out,
                        int is_hard, int first_document) {
    int n = n_passages * QUESTIONS_PER_PASSAGE, facts[FACTS];
    passage *passages = malloc((size_t)n_passages * sizeof *passages);
    question *questions = malloc((size_t)n * sizeof *questions);
    int *order = malloc((size_t)n * sizeof *order);
    char file_name[MAX_NAME];
    if (!passages || !questions || !order) die("out of memory");
    for (int i = 0; i < n_passages; i++) {
        if (is_hard) make_hard_passage(&passages[i]);
        else make_passage(&passages[i], held_out);
        for (int k = 0; k < passages[i].fact_count; k++) facts[k] = k;
        rng_shuffle(facts, passages[i].fact_count);
        for (int k = 0; k < QUESTIONS_PER_PASSAGE; k++) {
            const fact *f = &passages[i].facts[facts[k]];
            questions[i * QUESTIONS_PER_PASSAGE + k] = (question){
                .passage = &passages[i], .fact = f, .document = first_document + i,
                .ask = f->relation->ask[rng_below(VARIANTS)]};
        }
    }
    for (int i = 0; i < n; i++) order[i] = i;
    rng_shuffle(order, n);
    snprintf(file_name, sizeof file_name, "%s.jsonl", name);
    FILE *f = open_file(folder, file_name);
    for (int i = 0; i < n; i++) write_record(f, &questions[order[i]], name, i + 1);
    close_file(f, file_name);
    free(passages);
    free(questions);
    free(order);
}

static void write_tokenizer(const char *folder) {
    FILE *f = open_file(folder, "vocab.txt");
    for (size_t i = 0; i < COUNT(SPECIALS); i++) fprintf(f, "%s\n", SPECIALS[i]);
    for (size_t i = 0; i < vocab_size; i++) fprintf(f, "%s\n", vocab[i]);
    close_file(f, "vocab.txt");
    f = open_file(folder, "special_tokens_map.json");
    fprintf(f, "{\"bos_token\": \"[CLS]\", \"eos_token\": \"[SEP]\", \"unk_token\": \"[UNK]\", "
            "\"sep_token\": \"[SEP]\", \"pad_token\": \"[PAD]\", \"cls_token\": \"[CLS]\", "
            "\"mask_token\": \"[MASK]\"}\n");
    close_file(f, "special_tokens_map.json");
    f = open_file(folder, "tokenizer_config.json");
    fprintf(f, "{\"do_lower_case\": false, \"do_basic_tokenize\": true, \"never_split\": null, "
            "\"unk_token\": \"[UNK]\", \"sep_token\": \"[SEP]\", \"pad_token\": \"[PAD]\", "
            "\"cls_token\": \"[CLS]\", \"mask_token\": \"[MASK]\", \"bos_token\": \"[CLS]\", "
            "\"eos_token\": \"[SEP]\", \"tokenize_chinese_chars\": true, \"strip_accents\": null, "
            "\"model_max_length\": 254, \"tokenizer_class\": \"BertTokenizer\"}\n");
    close_file(f, "tokenizer_config.json");
}

// Positions begin at pad_token_id + 1 in RoBERTa, so 256 of them hold 254 pieces.
static void write_config(const char *folder) {
    FILE *f = open_file(folder, "config.json");
    fprintf(f, "{\n"
            "  \"architectures\": [\"RobertaForQuestionAnswering\"],\n"
            "  \"attention_probs_dropout_prob\": 0.0,\n"
            "  \"bos_token_id\": 0,\n"
            "  \"eos_token_id\": 2,\n"
            "  \"hidden_act\": \"gelu\",\n"
            "  \"hidden_dropout_prob\": 0.0,\n"
            "  \"hidden_size\": 64,\n"
            "  \"initializer_range\": 0.1,\n"
            "  \"intermediate_size\": 128,\n"
            "  \"layer_norm_eps\": 1e-05,\n"
            "  \"max_position_embeddings\": 256,\n"
            "  \"model_type\": \"roberta\",\n"
            "  \"num_attention_heads\": 4,\n"
            "  \"num_hidden_layers\": 2,\n"
            "  \"pad_token_id\": 1,\n"
            "  \"tokenizer_class\": \"BertTokenizer\",\n"
            "  \"type_vocab_size\": 1,\n"
            "  \"vocab_size\": %zu\n"
            "}\n", vocab_size + COUNT(SPECIALS));
    close_file(f, "config.json");
}

int main(int argc, char **argv) {
    if (argc != 2 || argv[1][0] == '-') {
        int is_help = argc == 2 && strcmp(argv[1], "--help") == 0;
        fprintf(is_help ? stdout : stderr,
                "usage: make_data FOLDER\n\n"
                "Writes the demo's data set into FOLDER, which must exist: train.jsonl,\n"
                "validation.jsonl, hard.jsonl, vocab.txt, tokenizer_config.json,\n"
                "special_tokens_map.json and config.json. The same bytes every time.\n");
        return is_help ? 0 : 2;
    }
    rng_state = SEED;
    vocab_size = 0;
    subject_count = 0;
    longest_pair = 0;
    vocab_make();
    write_split(argv[1], "train", TRAIN_PASSAGES, 0, 0, 1);
    write_split(argv[1], "validation", VALIDATION_PASSAGES, 1, 0, 1 + TRAIN_PASSAGES);
    write_split(argv[1], "hard", HARD_PASSAGES, 1, 1, 1 + TRAIN_PASSAGES + VALIDATION_PASSAGES);
    write_tokenizer(argv[1]);
    write_config(argv[1]);
    if (longest_pair > 254) die("a pair has %d pieces, expected at most 254", longest_pair);
    printf("%d training, %d validation, %d hard questions; %zu pieces; longest pair %d\n",
           TRAIN_PASSAGES * QUESTIONS_PER_PASSAGE, VALIDATION_PASSAGES * QUESTIONS_PER_PASSAGE,
           HARD_PASSAGES * QUESTIONS_PER_PASSAGE, vocab_size + COUNT(SPECIALS), longest_pair);
    return 0;
}
