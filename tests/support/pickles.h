// PyTorch's files by hand: the old stream, which has no checksums, so any object can stand in it,
// and the zip of today.  Each holds the tensor "a" of two elements.
#ifndef PICKLES_H
#define PICKLES_H
#include "test.h"

typedef struct pickle { char data[4096]; size_t n; } pickle;
static void put(pickle *b, const char *data, size_t n) {
    if (b->n + n > sizeof b->data) return;
    memcpy(b->data + b->n, data, n);
    b->n += n;
}
#define PUT(b, literal) put(b, literal, sizeof(literal) - 1)

#define ODICT "ccollections\nOrderedDict\n)R"
#define KEY(c) "X\1\0\0\0" c
#define STORAGE(tail) "(X\7\0\0\0storagectorch\nFloatStorage\n" KEY("0") "X\3\0\0\0cpuK\2" tail
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n("
#define TENSOR REBUILD STORAGE("NtQ") "K\0K\2\205K\1\205\211" ODICT "tR"
#define PARAMETER "ctorch._utils\n_rebuild_parameter\n("

TEST_HELPER void pickle_file(pickle *b, const char *object, size_t n) {
    b->n = 0;
    PUT(b, "\200\2\212\12\154\374\234\106\371\40\152\250\120\31.\200\2M\351\3.");
    PUT(b, "\200\2}X\15\0\0\0little_endian\210s.\200\2}(");
    PUT(b, KEY("a") TENSOR "q\0");
    put(b, object, n);
    PUT(b, "u.\200\2](" KEY("0") "e.\2\0\0\0\0\0\0\0" "12345678");
}

// A number in n bytes, the lowest first.
static void put_number(pickle *b, uint64_t x, size_t n) {
    for (; n-- > 0; x >>= 8) put(b, &(char){ (char)(x & 255) }, 1);
}

// The CRC-32 of zip.
TEST_HELPER uint32_t zip_crc(const char *data, size_t n) {
    uint32_t crc = ~0u;
    for (size_t i = 0; i < n; i++) {
        crc ^= (unsigned char)data[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

// What the header of an entry and the directory both say of it, from its flags on.
static void zip_sizes(pickle *b, const char *name, uint32_t crc, size_t bytes, size_t extra) {
    put_number(b, 0, 8);                            // flags, stored, no date
    put_number(b, crc, 4);
    put_number(b, extra ? UINT32_MAX : bytes, 4);
    put_number(b, extra ? UINT32_MAX : bytes, 4);
    put_number(b, strlen(name), 2);
    put_number(b, extra, 2);
}

// The end of a directory of three entries; wide: with the records of zip64.
static void zip_end(pickle *b, size_t begin, int wide) {
    size_t size = b->n - begin, end = b->n;
    if (wide) {
        PUT(b, "PK\6\6\54\0\0\0\0\0\0\0\55\0\55\0\0\0\0\0\0\0\0\0");
        put_number(b, 3, 8);
        put_number(b, 3, 8);
        put_number(b, size, 8);
        put_number(b, begin, 8);
        PUT(b, "PK\6\7\0\0\0\0");
        put_number(b, end, 8);
        put_number(b, 1, 4);
    }
    PUT(b, "PK\5\6\0\0\0\0");
    put_number(b, wide ? UINT16_MAX : 3, 2);
    put_number(b, wide ? UINT16_MAX : 3, 2);
    put_number(b, wide ? UINT32_MAX : size, 4);
    put_number(b, wide ? UINT32_MAX : begin, 4);
    put_number(b, 0, 2);
}

// Stored entries: the pickle, which holds `object` besides the tensor, the version, the storage.
// wide: sizes and places stand in fields of 64 bits.
TEST_HELPER void zip_file(pickle *b, const char *object, size_t n, int wide) {
    static const char *const names[] = { "m/data.pkl", "m/version", "m/data/0" };
    static pickle parts[3];
    uint32_t crc[3];
    size_t at[3], begin;
    for (int i = 0; i < 3; i++) parts[i].n = 0;
    PUT(&parts[0], "\200\2}(" KEY("a") REBUILD STORAGE("tQ") "K\0K\2\205K\1\205\211" ODICT "tR");
    put(&parts[0], object, n);
    PUT(&parts[0], "u.");
    PUT(&parts[1], "3\n");
    PUT(&parts[2], "12345678");
    b->n = 0;
    for (int i = 0; i < 3; i++) {
        at[i] = b->n;
        crc[i] = zip_crc(parts[i].data, parts[i].n);
        PUT(b, "PK\3\4\0\0");
        zip_sizes(b, names[i], crc[i], parts[i].n, 0);
        put(b, names[i], strlen(names[i]));
        put(b, parts[i].data, parts[i].n);
    }
    begin = b->n;
    for (int i = 0; i < 3; i++) {
        PUT(b, "PK\1\2\0\0\0\0");
        zip_sizes(b, names[i], crc[i], parts[i].n, wide ? 28 : 0);
        put_number(b, 0, 10);                       // no comment, the first disk, no attributes
        put_number(b, wide ? UINT32_MAX : at[i], 4);
        put(b, names[i], strlen(names[i]));
        if (!wide) continue;
        PUT(b, "\1\0\30\0");
        put_number(b, parts[i].n, 8);
        put_number(b, parts[i].n, 8);
        put_number(b, at[i], 8);
    }
    zip_end(b, begin, wide);
}
#endif
