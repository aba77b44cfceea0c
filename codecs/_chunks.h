/* Chunks decoded and put in their places, or gathered and encoded: what _compiled.c does, without Python and threads. tests/fuzz/chunks.c
 * runs it against hostile bytes.
 *
 * Every length is compared with what is expected before anything is read or allocated by it; the memory for decoded bytes
 * is as large as the chunk, never as large as a header says; places are checked against the output's shape before the
 * first chunk is decoded.
 */
#ifndef ZARRDOCK_CHUNKS_H
#define ZARRDOCK_CHUNKS_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef _WIN32
#define HAVE_FILES
#include <errno.h>
#include <unistd.h>
#endif
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif
#ifdef HAVE_BLOSC
#include <blosc.h>
#endif
#ifdef HAVE_DEFLATE
#include <libdeflate.h>
#endif
#ifdef HAVE_LZ4
#include <lz4.h>
#endif

typedef uint8_t byte;
typedef ptrdiff_t size;

#define MAX_DIMENSIONS 32
#define MAX_STEPS 8
/* Chunks that follow each other in a file are read together, as many as stay in the processor's cache. */
#define WINDOW_NBYTES (256 << 10)

/* -- CRC-32C ------------------------------------------------------------------------------------------------------- */

static uint32_t crc_table[8][256];

static void make_crc_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
        crc_table[0][i] = crc;
    }
    for (int n = 1; n < 8; n++)
        for (int i = 0; i < 256; i++)
            crc_table[n][i] = crc_table[n - 1][i] >> 8 ^ crc_table[0][crc_table[n - 1][i] & 255];
}

static uint32_t little32(const byte *data)
{
    return (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;
}

static uint32_t crc32c_by_table(const byte *data, size_t n)
{
    uint32_t crc = ~0u;
    for (; n >= 8; data += 8, n -= 8) {
        uint32_t low = crc ^ little32(data), high = little32(data + 4);
        crc = crc_table[7][low & 255] ^ crc_table[6][low >> 8 & 255] ^ crc_table[5][low >> 16 & 255] ^
              crc_table[4][low >> 24] ^ crc_table[3][high & 255] ^ crc_table[2][high >> 8 & 255] ^
              crc_table[1][high >> 16 & 255] ^ crc_table[0][high >> 24];
    }
    for (; n; data++, n--)
        crc = crc >> 8 ^ crc_table[0][(crc ^ *data) & 255];
    return ~crc;
}

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_by_instruction(const byte *data, size_t n)
{
    uint64_t crc = 0xffffffffu;
    for (; n >= 8; data += 8, n -= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        crc = __builtin_ia32_crc32di(crc, word);
    }
    uint32_t rest = (uint32_t)crc;
    for (; n; data++, n--)
        rest = __builtin_ia32_crc32qi(rest, *data);
    return ~rest;
}

static uint32_t crc32c(const byte *data, size_t n)
{
    return __builtin_cpu_supports("sse4.2") ? crc32c_by_instruction(data, n) : crc32c_by_table(data, n);
}
#else
#define crc32c crc32c_by_table
#endif

/* -- Chains of codecs, bound to a chunk ----------------------------------------------------------------------------- */

enum { CRC32C, ZSTD, BLOSC, GZIP, ZLIB, LZ4, N_CODECS };

static const char *const codec_names[N_CODECS] = {"crc32c", "zstd", "blosc", "gzip", "zlib", "lz4"};
/* Of encoding. zstd: level, checksum; blosc: number in blosc_names, level, shuffle, bytes of a block, of an element;
 * gzip, zlib: level; lz4: acceleration. */
static const int n_options[N_CODECS] = {0, 2, 5, 1, 1, 1};
static const char *const blosc_names[] = {"blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd"};
static const int codec_is_here[N_CODECS] = {
    1,
#ifdef HAVE_ZSTD
    1,
#else
    0,
#endif
#ifdef HAVE_BLOSC
    1,
#else
    0,
#endif
#ifdef HAVE_DEFLATE
    1, 1,
#else
    0, 0,
#endif
#ifdef HAVE_LZ4
    1,
#else
    0,
#endif
};

#define MAX_OPTIONS 5

typedef struct {
    int codec;
    size decoded, limit; /* bytes: exactly, or if that is -1, at most (of checksums only) */
    int n_options;       /* -1: it only decodes */
    int options[MAX_OPTIONS];
} Step;

typedef struct {
    int n_steps;
    Step steps[MAX_STEPS]; /* in the order of decoding */
    int ndim;
    size shape[MAX_DIMENSIONS];
    size strides[MAX_DIMENSIONS]; /* of the chunk as its bytes are decoded, in bytes */
    size itemsize;
    size unit; /* bytes that have an order of their own: half of a complex number */
    int is_boolean;
    size nbytes;
    size limit; /* of the encoded bytes */
} Chain;

/* True where all that a chain says fits together: no element lies outside of the decoded bytes. */
static int is_sound(Chain *chain)
{
    size nbytes = chain->itemsize, last = chain->itemsize;
    if (chain->ndim < 0 || chain->ndim > MAX_DIMENSIONS || chain->n_steps < 0 || chain->n_steps > MAX_STEPS ||
        chain->itemsize < 1 || chain->unit < 1 || chain->itemsize % chain->unit ||
        (chain->is_boolean && chain->itemsize != 1))
        return 0;
    for (int d = 0; d < chain->ndim; d++) {
        size length = chain->shape[d], stride = chain->strides[d];
        if (length < 1 || stride < chain->itemsize || nbytes > PTRDIFF_MAX / length)
            return 0;
        if (length > 1 && stride > (PTRDIFF_MAX - last) / (length - 1))
            return 0;
        nbytes *= length;
        last += stride * (length - 1);
    }
    if (last > nbytes)
        return 0;
    for (int i = 0; i < chain->n_steps; i++) {
        const Step step = chain->steps[i];
        if (step.codec < 0 || step.codec >= N_CODECS || !codec_is_here[step.codec] ||
            step.decoded < (step.codec == CRC32C ? -1 : 0) || step.limit < step.decoded)
            return 0;
        if (step.n_options >= 0 && step.n_options != n_options[step.codec])
            return 0;
        if (step.codec == BLOSC && step.n_options >= 0 &&
            (step.options[0] < 0 || step.options[0] >= (int)(sizeof blosc_names / sizeof *blosc_names)))
            return 0;
    }
    chain->nbytes = nbytes;
    return 1;
}

/* -- What a thread works with --------------------------------------------------------------------------------------- */

typedef struct Worker {
    struct Worker *next;
    byte *memory[3]; /* two for decoding, one for what was read */
    size nbytes[3];
#ifdef HAVE_ZSTD
    ZSTD_DCtx *zstd;
    ZSTD_CCtx *zstd_encoder;
#endif
#ifdef HAVE_DEFLATE
    struct libdeflate_decompressor *deflate;
    struct libdeflate_compressor *deflate_encoder;
    int deflate_level; /* of the encoder */
#endif
} Worker;

static void free_worker(Worker *worker)
{
    for (int i = 0; i < 3; i++)
        free(worker->memory[i]);
#ifdef HAVE_ZSTD
    ZSTD_freeDCtx(worker->zstd);
    ZSTD_freeCCtx(worker->zstd_encoder);
#endif
#ifdef HAVE_DEFLATE
    libdeflate_free_decompressor(worker->deflate);
    libdeflate_free_compressor(worker->deflate_encoder);
#endif
    free(worker);
}

static byte *scratch(Worker *worker, int which, size nbytes)
{
    if (worker->nbytes[which] < nbytes || !worker->memory[which]) {
        free(worker->memory[which]);
        worker->memory[which] = malloc(nbytes ? (size_t)nbytes : 1);
        worker->nbytes[which] = worker->memory[which] ? nbytes : 0;
    }
    return worker->memory[which];
}

/* -- Decoding: 1 where all is as expected, 0 for everything else ----------------------------------------------------- */

#ifdef HAVE_ZSTD
static int decode_zstd(Worker *worker, const byte *data, size n, byte *out, size decoded)
{
    /* One frame of this format that says how long its content is, and nothing behind it. */
    if (n < 9 || little32(data) != ZSTD_MAGICNUMBER || ZSTD_getFrameContentSize(data, n) != (uint64_t)decoded)
        return 0;
    if (ZSTD_findFrameCompressedSize(data, n) != (size_t)n)
        return 0;
    if (!worker->zstd && !(worker->zstd = ZSTD_createDCtx()))
        return 0;
    return ZSTD_decompressDCtx(worker->zstd, out, decoded, data, n) == (size_t)decoded;
}
#endif

#ifdef HAVE_BLOSC
static int decode_blosc(const byte *data, size n, byte *out, size decoded)
{
    /* version, version of the compressor, flags, typesize, nbytes, blocksize, cbytes; then where blocks begin */
    if (n < 16 || n > INT32_MAX || data[0] != 2 || little32(data + 4) != (uint64_t)decoded ||
        little32(data + 12) != (uint64_t)n)
        return 0;
    if (data[2] & 2) { /* not compressed */
        if (n != decoded + 16)
            return 0;
    } else {
        int64_t blocksize = little32(data + 8);
        if (!data[3] || blocksize < 1 || blocksize > decoded || n < 16 + 4 * ((decoded + blocksize - 1) / blocksize))
            return 0;
    }
    size_t content;
    if (blosc_cbuffer_validate(data, n, &content) != 0 || content != (size_t)decoded)
        return 0;
    return blosc_decompress_ctx(data, out, decoded, 1) == decoded;
}
#endif

#ifdef HAVE_DEFLATE
static int decode_deflate(Worker *worker, int codec, const byte *data, size n, byte *out, size decoded)
{
    size_t used = 0, made = 0;
    if (!worker->deflate && !(worker->deflate = libdeflate_alloc_decompressor()))
        return 0;
    enum libdeflate_result result =
        codec == GZIP ? libdeflate_gzip_decompress_ex(worker->deflate, data, n, out, decoded, &used, &made)
                      : libdeflate_zlib_decompress_ex(worker->deflate, data, n, out, decoded, &used, &made);
    return result == LIBDEFLATE_SUCCESS && used == (size_t)n && made == (size_t)decoded;
}
#endif

#ifdef HAVE_LZ4
static int decode_lz4(const byte *data, size n, byte *out, size decoded)
{
    /* a block, behind its decoded length */
    if (n < 5 || n > INT32_MAX || decoded > INT32_MAX || little32(data) != (uint64_t)decoded)
        return 0;
    return LZ4_decompress_safe((const char *)data + 4, (char *)out, (int)n - 4, (int)decoded) == decoded;
}
#endif

/* The chunk's `nbytes` bytes: in `direct` where that is given and a codec can write there, in the worker's memory, or
 * where they were. */
static const byte *decode(Worker *worker, const Chain *chain, const byte *data, size n, byte *direct)
{
    for (int i = 0; i < chain->n_steps; i++) {
        const Step step = chain->steps[i];
        if (step.codec == CRC32C) {
            if (n < 4 || (step.decoded < 0 ? n - 4 > step.limit : n - 4 != step.decoded))
                return NULL;
            n -= 4;
            if (crc32c(data, (size_t)n) != little32(data + n))
                return NULL;
            continue;
        }
        byte *out = direct && i == chain->n_steps - 1 ? direct : scratch(worker, i & 1, step.decoded);
        int done = 0;
        if (!out || !step.decoded)
            return NULL;
        switch (step.codec) {
#ifdef HAVE_ZSTD
        case ZSTD:
            done = decode_zstd(worker, data, n, out, step.decoded);
            break;
#endif
#ifdef HAVE_BLOSC
        case BLOSC:
            done = decode_blosc(data, n, out, step.decoded);
            break;
#endif
#ifdef HAVE_DEFLATE
        case GZIP:
        case ZLIB:
            done = decode_deflate(worker, step.codec, data, n, out, step.decoded);
            break;
#endif
#ifdef HAVE_LZ4
        case LZ4:
            done = decode_lz4(data, n, out, step.decoded);
            break;
#endif
        }
        if (!done)
            return NULL;
        data = out;
        n = step.decoded;
    }
    return n == chain->nbytes ? data : NULL;
}

/* -- Encoding: bytes made of `n` bytes, or -1 for everything that is not as expected ----------------------------------- */

/* Memory that a step needs for its result; 0: none would be enough. */
static size bound(Worker *worker, const Step *step, size n)
{
    (void)worker;
    switch (step->codec) {
    case CRC32C:
        return n + 4;
#ifdef HAVE_ZSTD
    case ZSTD: {
        size_t most = ZSTD_compressBound((size_t)n);
        return ZSTD_isError(most) || most > PTRDIFF_MAX ? 0 : (size)most;
    }
#endif
#ifdef HAVE_BLOSC
    case BLOSC:
        return n > BLOSC_MAX_BUFFERSIZE ? 0 : n + BLOSC_MAX_OVERHEAD;
#endif
#ifdef HAVE_DEFLATE
    case GZIP:
    case ZLIB: {
        int level = step->options[0];
        if (level < 1 || level > 12) /* older releases do not know 0 */
            return 0;
        if (!worker->deflate_encoder || worker->deflate_level != level) {
            libdeflate_free_compressor(worker->deflate_encoder);
            worker->deflate_encoder = libdeflate_alloc_compressor(level);
            worker->deflate_level = level;
        }
        if (!worker->deflate_encoder)
            return 0;
        size_t most = step->codec == GZIP ? libdeflate_gzip_compress_bound(worker->deflate_encoder, (size_t)n)
                                          : libdeflate_zlib_compress_bound(worker->deflate_encoder, (size_t)n);
        return most > PTRDIFF_MAX ? 0 : (size)most;
    }
#endif
#ifdef HAVE_LZ4
    case LZ4:
        return n > LZ4_MAX_INPUT_SIZE ? 0 : 4 + (size)LZ4_compressBound((int)n);
#endif
    }
    return 0;
}

static void put_little32(byte *out, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        out[i] = (byte)(value >> 8 * i);
}

static size encode_step(Worker *worker, const Step *step, const byte *data, size n, byte *out, size room)
{
    switch (step->codec) {
    case CRC32C:
        memcpy(out, data, (size_t)n);
        put_little32(out + n, crc32c(data, (size_t)n));
        return n + 4;
#ifdef HAVE_ZSTD
    case ZSTD: {
        if (!worker->zstd_encoder && !(worker->zstd_encoder = ZSTD_createCCtx()))
            return -1;
        ZSTD_CCtx_reset(worker->zstd_encoder, ZSTD_reset_session_and_parameters);
        if (ZSTD_isError(ZSTD_CCtx_setParameter(worker->zstd_encoder, ZSTD_c_compressionLevel, step->options[0])) ||
            ZSTD_isError(ZSTD_CCtx_setParameter(worker->zstd_encoder, ZSTD_c_checksumFlag, step->options[1])))
            return -1;
        size_t made = ZSTD_compress2(worker->zstd_encoder, out, (size_t)room, data, (size_t)n);
        return ZSTD_isError(made) ? -1 : (size)made;
    }
#endif
#ifdef HAVE_BLOSC
    case BLOSC: {
        const int *o = step->options;
        int made = blosc_compress_ctx(o[1], o[2], (size_t)o[4], (size_t)n, data, out, (size_t)room, blosc_names[o[0]],
                                      (size_t)o[3], 1);
        return made > 0 ? made : -1;
    }
#endif
#ifdef HAVE_DEFLATE
    case GZIP:
    case ZLIB: {
        size_t made = step->codec == GZIP
                          ? libdeflate_gzip_compress(worker->deflate_encoder, data, (size_t)n, out, (size_t)room)
                          : libdeflate_zlib_compress(worker->deflate_encoder, data, (size_t)n, out, (size_t)room);
        return made ? (size)made : -1;
    }
#endif
#ifdef HAVE_LZ4
    case LZ4: {
        put_little32(out, (uint32_t)n);
        int made = LZ4_compress_fast((const char *)data, (char *)out + 4, (int)n, (int)(room - 4), step->options[0]);
        return made > 0 ? made + 4 : -1;
    }
#endif
    }
    return -1;
}

/* The encoded form of a chunk's bytes, in the worker's memory; NULL for everything that is not as expected. */
static const byte *encode(Worker *worker, const Chain *chain, const byte *data, size *n)
{
    *n = chain->nbytes;
    for (int i = chain->n_steps - 1; i >= 0; i--) {
        const Step *step = &chain->steps[i];
        if (step->n_options < 0 || *n < 1 || (step->decoded >= 0 && *n != step->decoded))
            return NULL;
        size room = bound(worker, step, *n);
        byte *out = room > 0 ? scratch(worker, i & 1, room) : NULL;
        if (!out || (*n = encode_step(worker, step, data, *n, out, room)) < 0)
            return NULL;
        data = out;
    }
    return data;
}

/* -- Copying ---------------------------------------------------------------------------------------------------------
 * Elements may lie anywhere, aligned or not. */

enum { PLAIN, SWAPPED, BOOLEAN };

static void reversed(byte *out, const byte *data, size n)
{
    for (size i = 0; i < n; i++)
        out[i] = data[n - 1 - i];
}

#define EACH(body)                                                                                                    \
    for (; n; n--, out += out_step, data += data_step) {                                                              \
        body;                                                                                                         \
    }
#define AS(type, change)                                                                                              \
    EACH({                                                                                                            \
        type value;                                                                                                   \
        memcpy(&value, data, sizeof value);                                                                           \
        value = change;                                                                                               \
        memcpy(out, &value, sizeof value);                                                                            \
    })

static uint16_t swapped16(uint16_t v) { return (uint16_t)(v << 8 | v >> 8); }
static uint32_t swapped32(uint32_t v) { return (uint32_t)swapped16((uint16_t)v) << 16 | swapped16((uint16_t)(v >> 16)); }
static uint64_t swapped64(uint64_t v) { return (uint64_t)swapped32((uint32_t)v) << 32 | swapped32((uint32_t)(v >> 32)); }

/* n elements of `itemsize` bytes, which lie so far apart */
static void copy_run(byte *out, size out_step, const byte *data, size data_step, size n, size itemsize, int how)
{
    if (how == BOOLEAN) {
        EACH(*out = *data != 0)
    } else if (how == SWAPPED) {
        switch (itemsize) {
        case 2: AS(uint16_t, swapped16(value)) break;
        case 4: AS(uint32_t, swapped32(value)) break;
        case 8: AS(uint64_t, swapped64(value)) break;
        default: EACH(reversed(out, data, itemsize))
        }
    } else if (out_step == itemsize && data_step == itemsize) {
        memcpy(out, data, (size_t)(n * itemsize));
    } else {
        switch (itemsize) {
        case 1: EACH(*out = *data) break;
        case 2: AS(uint16_t, value) break;
        case 4: AS(uint32_t, value) break;
        case 8: AS(uint64_t, value) break;
        default: EACH(memcpy(out, data, (size_t)itemsize))
        }
    }
}

/* A box of elements. The strides are all within the chunk and the output: the caller saw to it. */
static void copy_box(byte *out, const size *out_strides, const byte *data, const size *strides, const size *lengths,
                     int ndim, size itemsize, int how)
{
    size n[MAX_DIMENSIONS + 1], a[MAX_DIMENSIONS + 1], b[MAX_DIMENSIONS + 1], at[MAX_DIMENSIONS + 1];
    int m = 0;
    /* Axes in the order in which they lie in the output, those that follow each other in both as one. */
    for (int i = 0; i < ndim; i++) {
        if (lengths[i] == 1)
            continue;
        size step = out_strides[i] < 0 ? -out_strides[i] : out_strides[i];
        int j = m++;
        for (; j > 0 && (a[j - 1] < 0 ? -a[j - 1] : a[j - 1]) < step; j--) {
            n[j] = n[j - 1];
            a[j] = a[j - 1];
            b[j] = b[j - 1];
        }
        n[j] = lengths[i];
        a[j] = out_strides[i];
        b[j] = strides[i];
    }
    int k = 0;
    for (int i = 1; i < m; i++) {
        if (a[k] == a[i] * n[i] && b[k] == b[i] * n[i]) {
            n[k] *= n[i];
            a[k] = a[i];
            b[k] = b[i];
        } else {
            k++;
            n[k] = n[i];
            a[k] = a[i];
            b[k] = b[i];
        }
    }
    if (!m) {
        copy_run(out, itemsize, data, itemsize, 1, itemsize, how);
        return;
    }
    for (int i = 0; i < k; i++)
        at[i] = 0;
    for (;;) {
        copy_run(out, a[k], data, b[k], n[k], itemsize, how);
        int i = k - 1;
        for (; i >= 0; i--) {
            out += a[i];
            data += b[i];
            if (++at[i] < n[i])
                break;
            out -= a[i] * n[i];
            data -= b[i] * n[i];
            at[i] = 0;
        }
        if (i < 0)
            return;
    }
}

/* -- Chunks and their places ------------------------------------------------------------------------------------------ */

/* One axis' part of a chunk: `n` elements from `inner` on, `step` apart; in the output from `outer` on. */
typedef struct {
    size inner, step, outer, n;
} Piece;

/* Where encoded chunks are: in memory, or in a file. */
typedef struct {
    const byte *data;
    int fd; /* -1: in memory */
    int64_t start, nbytes;
} Source;

/* Part of a source that was read into a worker's memory. */
typedef struct {
    const Source *source;
    int64_t start, nbytes;
} Window;

/* True where a piece stays within a chunk and an output that are so long along its axis. */
static int fits(const Piece *piece, size length, size out_length)
{
    return piece->inner >= 0 && piece->step >= 1 && piece->outer >= 0 && piece->n >= 0 &&
           (!piece->n || (piece->outer <= out_length && piece->n <= out_length - piece->outer && piece->inner < length &&
                          piece->n - 1 <= (length - 1 - piece->inner) / piece->step));
}

/* Chunks of one shard (or one object): which pieces each of them is made of. */
typedef struct {
    const Chain *chain;
    int how;
    size n; /* chunks */
    size n_sources;
    Source *sources;
    const int64_t *buffer, *offset, *length, *number; /* of each chunk */
    Piece *pieces[MAX_DIMENSIONS];
    size n_pieces[MAX_DIMENSIONS];
} Group;

typedef struct {
    byte *data;
    int ndim;
    size shape[MAX_DIMENSIONS], strides[MAX_DIMENSIONS];
} Output;

/* The bytes of chunk i, which were found to lie in the source. Of those in a file the ones behind it are read, too, where
 * they are the next chunks, up to number `stop`. */
static const byte *encoded(Worker *worker, Window *window, const Group *group, size i, size stop)
{
    const Source *source = &group->sources[group->buffer[i]];
    int64_t start = group->offset[i], n = group->length[i];
    if (source->fd < 0)
        return source->data + start;
#ifdef HAVE_FILES
    if (window->source != source || start < window->start || start + n > window->start + window->nbytes) {
        int64_t nbytes = n;
        for (size j = i + 1; j < stop && group->buffer[j] == group->buffer[i]; j++) {
            if (group->offset[j] != start + nbytes || group->length[j] < 0 ||
                group->length[j] > WINDOW_NBYTES - nbytes || group->length[j] > source->nbytes - start - nbytes)
                break;
            nbytes += group->length[j];
        }
        window->source = NULL;
        byte *memory = n <= group->chain->limit ? scratch(worker, 2, nbytes) : NULL;
        if (!memory)
            return NULL;
        for (int64_t done = 0; done < nbytes;) {
            ssize_t got = pread(source->fd, memory + done, (size_t)(nbytes - done), source->start + start + done);
            if (got < 0 && errno == EINTR)
                continue;
            if (got <= 0)
                return NULL;
            done += got;
        }
        window->source = source;
        window->start = start;
        window->nbytes = nbytes;
    }
    return worker->memory[2] + (start - window->start);
#else
    return NULL;
#endif
}

static int place(Worker *worker, Window *window, const Output *output, const Group *group, size i, size stop)
{
    const Chain *chain = group->chain;
    int64_t which = group->buffer[i], start = group->offset[i], n = group->length[i], number = group->number[i];
    if (which < 0 || which >= group->n_sources || start < 0 || n < 0 || number < 0)
        return 0;
    if (start > group->sources[which].nbytes || n > group->sources[which].nbytes - start)
        return 0;
    size lengths[MAX_DIMENSIONS + 1], strides[MAX_DIMENSIONS + 1], out_strides[MAX_DIMENSIONS + 1], first = 0;
    byte *out = output->data;
    int ndim = chain->ndim, in_order = group->how == PLAIN;
    for (int d = ndim - 1; d >= 0; d--) {
        const Piece *piece = &group->pieces[d][number % group->n_pieces[d]];
        number /= group->n_pieces[d];
        if (!piece->n)
            return 1; /* nothing of it is wanted */
        lengths[d] = piece->n;
        strides[d] = chain->strides[d] * piece->step;
        out_strides[d] = output->strides[d];
        first += piece->inner * chain->strides[d];
        out += piece->outer * output->strides[d];
        if (piece->n != chain->shape[d] || (piece->n != 1 && chain->strides[d] != output->strides[d]))
            in_order = 0;
    }
    if (number)
        return 0;
    /* A whole chunk that lies in the output as in its bytes is decoded into it. */
    const byte *data = encoded(worker, window, group, i, stop);
    if (data)
        data = decode(worker, chain, data, n, in_order ? out : NULL);
    if (!data)
        return 0;
    if (data == out)
        return 1;
    size itemsize = chain->itemsize;
    if (group->how == SWAPPED && chain->unit != itemsize) {
        lengths[ndim] = itemsize / chain->unit;
        strides[ndim] = out_strides[ndim] = itemsize = chain->unit;
        ndim++;
    }
    copy_box(out, out_strides, data + first, strides, lengths, ndim, itemsize, group->how);
    return 1;
}

/* A chunk's elements out of an array, encoded. 1: done, in `made` its bytes, to be freed, NULL where all elements are
 * those of `fill`, which may be NULL; 0: to be encoded otherwise. */
static int pack(Worker *worker, const Output *array, const Group *group, size i, const byte *fill, byte **made,
                size *nbytes)
{
    const Chain *chain = group->chain;
    int64_t number = group->number[i];
    size lengths[MAX_DIMENSIONS + 1], strides[MAX_DIMENSIONS + 1], array_strides[MAX_DIMENSIONS + 1];
    const byte *data = array->data;
    int ndim = chain->ndim, in_order = group->how == PLAIN;
    if (number < 0)
        return 0;
    for (int d = ndim - 1; d >= 0; d--) {
        const Piece *piece = &group->pieces[d][number % group->n_pieces[d]];
        number /= group->n_pieces[d];
        if (piece->n != chain->shape[d]) /* at the edge the rest is fill value */
            return 0;
        lengths[d] = piece->n;
        strides[d] = chain->strides[d];
        array_strides[d] = array->strides[d];
        data += piece->outer * array->strides[d];
        if (piece->n != 1 && chain->strides[d] != array->strides[d])
            in_order = 0;
    }
    if (number)
        return 0;
    size itemsize = chain->itemsize, unit = itemsize;
    if (!in_order) {
        byte *gathered = scratch(worker, 2, chain->nbytes);
        if (!gathered)
            return 0;
        if (group->how == SWAPPED && chain->unit != itemsize) {
            lengths[ndim] = itemsize / chain->unit;
            strides[ndim] = array_strides[ndim] = unit = chain->unit;
            ndim++;
        }
        copy_box(gathered, strides, data, array_strides, lengths, ndim, unit, group->how);
        data = gathered;
    }
    *made = NULL;
    *nbytes = 0;
    if (fill && !memcmp(data, fill, (size_t)itemsize) &&
        !memcmp(data, data + itemsize, (size_t)(chain->nbytes - itemsize)))
        return 1;
    data = encode(worker, chain, data, nbytes);
    if (!data || !(*made = malloc(*nbytes ? (size_t)*nbytes : 1)))
        return 0;
    memcpy(*made, data, (size_t)*nbytes);
    return 1;
}

#endif
