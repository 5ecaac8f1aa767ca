// UTF-8: validity, code points and replacements against Unicode's table 3-7, row by row.
#include "../support/fuzz.h"

// The bytes that the table allows at s: a whole character, or with *good = 0 the longest beginning
// of one, at least 1.
static size_t fuzz_subpart(const uint8_t *s, size_t bytes, int *good) {
    static const uint8_t rows[][4] = {      // first bytes, the second's range
        { 0xc2, 0xdf, 0x80, 0xbf }, { 0xe0, 0xe0, 0xa0, 0xbf }, { 0xe1, 0xec, 0x80, 0xbf },
        { 0xed, 0xed, 0x80, 0x9f }, { 0xee, 0xef, 0x80, 0xbf }, { 0xf0, 0xf0, 0x90, 0xbf },
        { 0xf1, 0xf3, 0x80, 0xbf }, { 0xf4, 0xf4, 0x80, 0x8f } };
    *good = *s < 0x80;
    for (size_t i = 0; i < 8; i++) {
        if (*s < rows[i][0] || *s > rows[i][1]) continue;
        size_t n = *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : 4;
        for (size_t k = 1; k < n; k++) {
            if (k == bytes || s[k] < (k == 1 ? rows[i][2] : 0x80)
                || s[k] > (k == 1 ? rows[i][3] : 0xbf)) return k;
        }
        *good = 1;
        return n;
    }
    return 1;
}

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    const char *s = (const char *)data;
    size_t valid = SIZE_MAX, points = 0;
    char again[4];
    int good;
    (void)ctx;
    for (size_t at = 0, n; at < bytes; at += n) {
        uint32_t cp = 1, next = 1;
        n = fuzz_subpart(data + at, bytes - at, &good);
        FUZZ_HOLDS(mrc_utf8_decode(s + at, bytes - at, &cp) == (good ? n : 0));
        FUZZ_HOLDS(mrc_utf8_next(s + at, bytes - at, &next) == n);
        FUZZ_HOLDS(next == (good ? cp : 0xfffd));
        if (!good && valid == SIZE_MAX) valid = at;
        if (!good) continue;
        FUZZ_HOLDS(mrc_utf8_encode(cp, again) == n && !memcmp(again, s + at, n));
        if (valid != SIZE_MAX) continue;
        if (points % 97 == 0) FUZZ_HOLDS(mrc_utf8_offset(s, at, points) == at);
        points++;
    }
    if (valid == SIZE_MAX) valid = bytes;
    FUZZ_HOLDS(mrc_utf8_valid(s, bytes) == valid);
    FUZZ_HOLDS(mrc_utf8_length(s, valid) == points);
    return 1;                   // every text has a reading
}

const char *const fuzz_seeds[] = {
    "aB \xc3\xa9 \xed\x95\x9c\xea\xb5\xad \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf \xef\xbf\xbe",
    "\xe2\x82 \xf0\x80\x80 \xed\xa0\x80 \xf4\x80\x80\xff", NULL
};
