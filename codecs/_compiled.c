/* Many chunks decoded and put in their places by one call, without the interpreter's lock.
 *
 * Nothing here is needed: what a chunk's bytes have to be is defined by the codecs in Python. This file knows the plain
 * case of the common ones. Whatever is not that, from an honest second zstd frame to a damaged byte, is left alone and
 * reported by its number; the Python codecs then decode it, or say what is wrong with it. So there are no error messages
 * here, and no bytes are accepted that Python would refuse.
 *
 * Hostile bytes: every length is compared with what is expected before anything is read or allocated by it; the memory
 * for decoded bytes is as large as the chunk, never as large as a header says; places are checked against the output's
 * shape before the first chunk is decoded.
 *
 * Threads run no Python code. What they share is behind one lock.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

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
typedef Py_ssize_t size;

#define MAX_DIMENSIONS 32
#define MAX_STEPS 8
#define MAX_THREADS 256
/* Chunks that follow each other in a file are read together, as many as stay in the processor's cache. */
#define WINDOW_NBYTES (256 << 10)
/* A worker gives larger memory back when its call is over. */
#define KEPT_NBYTES (4 << 20)
#define KEPT_WORKERS 64

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

typedef struct {
    int codec;
    size decoded, limit; /* bytes: exactly, or if that is -1, at most (of checksums only) */
} Step;

typedef struct {
    PyObject_HEAD
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

/* -- What a thread works with --------------------------------------------------------------------------------------- */

typedef struct Worker {
    struct Worker *next;
    byte *memory[3]; /* two for decoding, one for what was read */
    size nbytes[3];
#ifdef HAVE_ZSTD
    ZSTD_DCtx *zstd;
#endif
#ifdef HAVE_DEFLATE
    struct libdeflate_decompressor *deflate;
#endif
} Worker;

/* Two locks that live as long as the process: a thread may still be on its way out of one when its call is over. */
typedef struct Team {
    struct Team *next;
    PyThread_type_lock turn, done;
} Team;

/* What is kept from call to call. It is only ever tried for: after a fork the lock may be held for good. */
static PyThread_type_lock kept_lock;
static Worker *kept_workers;
static int n_kept_workers;
static Team *kept_teams;

static void free_worker(Worker *worker)
{
    for (int i = 0; i < 3; i++)
        free(worker->memory[i]);
#ifdef HAVE_ZSTD
    ZSTD_freeDCtx(worker->zstd);
#endif
#ifdef HAVE_DEFLATE
    libdeflate_free_decompressor(worker->deflate);
#endif
    free(worker);
}

static Worker *get_worker(void)
{
    Worker *worker = NULL;
    if (PyThread_acquire_lock(kept_lock, NOWAIT_LOCK)) {
        worker = kept_workers;
        if (worker) {
            kept_workers = worker->next;
            n_kept_workers--;
        }
        PyThread_release_lock(kept_lock);
    }
    return worker ? worker : calloc(1, sizeof(Worker));
}

static void put_worker(Worker *worker)
{
    for (int i = 0; i < 3; i++)
        if (worker->nbytes[i] > KEPT_NBYTES) {
            free(worker->memory[i]);
            worker->memory[i] = NULL;
            worker->nbytes[i] = 0;
        }
    if (PyThread_acquire_lock(kept_lock, NOWAIT_LOCK)) {
        if (n_kept_workers < KEPT_WORKERS) {
            worker->next = kept_workers;
            kept_workers = worker;
            n_kept_workers++;
            worker = NULL;
        }
        PyThread_release_lock(kept_lock);
    }
    if (worker)
        free_worker(worker);
}

static Team *get_team(void)
{
    Team *team = NULL;
    if (PyThread_acquire_lock(kept_lock, NOWAIT_LOCK)) {
        team = kept_teams;
        if (team)
            kept_teams = team->next;
        PyThread_release_lock(kept_lock);
    }
    if (team || !(team = calloc(1, sizeof(Team))))
        return team;
    team->turn = PyThread_allocate_lock();
    team->done = PyThread_allocate_lock();
    if (team->turn && team->done && PyThread_acquire_lock(team->done, NOWAIT_LOCK))
        return team;
    if (team->turn)
        PyThread_free_lock(team->turn);
    if (team->done)
        PyThread_free_lock(team->done);
    free(team);
    return NULL;
}

static void put_team(Team *team)
{
    if (PyThread_acquire_lock(kept_lock, NOWAIT_LOCK)) {
        team->next = kept_teams;
        kept_teams = team;
        PyThread_release_lock(kept_lock);
    } /* else it is left, a hundred bytes: it must not be freed */
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

/* -- A call ------------------------------------------------------------------------------------------------------------
 */

/* One axis' part of a chunk: `n` elements from `inner` on, `step` apart; in the output from `outer` on. */
typedef struct {
    size inner, step, outer, n;
} Piece;

/* Where encoded chunks are: in memory, or in a file. */
typedef struct {
    Py_buffer view;
    int fd; /* -1: in memory */
    int64_t start, nbytes;
} Source;

/* Part of a source that was read into a worker's memory. */
typedef struct {
    const Source *source;
    int64_t start, nbytes;
} Window;

/* Chunks of one shard (or one object): which of the caller's pieces each is made of, or which points it has. */
typedef struct {
    Chain *chain;
    int how;
    size n; /* chunks */
    size n_buffers;
    Source *sources;
    Py_buffer views[7]; /* which buffer, offset, length, number of each chunk; coordinates, places, lengths of points */
    int n_views;
    const int64_t *buffer, *offset, *length, *number;
    Piece *pieces[MAX_DIMENSIONS];
    size n_pieces[MAX_DIMENSIONS];
    Piece *all_pieces;
} Group;

typedef struct {
    Group *groups;
    size n_groups;
    size total, per_turn;
    byte *out;
    int ndim;
    size shape[MAX_DIMENSIONS], strides[MAX_DIMENSIONS];
    Team *team;
    /* behind the lock */
    size next_group, next, left_of_helpers;
    byte *failed;
} Call;

/* The bytes of chunk i, which were found to lie in the source. Of those in a file the ones behind it are read, too, where
 * they are the next chunks, up to number `stop`. */
static const byte *encoded(Worker *worker, Window *window, const Group *group, size i, size stop)
{
    const Source *source = &group->sources[group->buffer[i]];
    int64_t start = group->offset[i], n = group->length[i];
    if (source->fd < 0)
        return (const byte *)source->view.buf + start;
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

static int place(Worker *worker, Window *window, const Call *call, const Group *group, size i, size stop)
{
    const Chain *chain = group->chain;
    int64_t which = group->buffer[i], start = group->offset[i], n = group->length[i], number = group->number[i];
    if (which < 0 || which >= group->n_buffers || start < 0 || n < 0 || number < 0)
        return 0;
    if (start > group->sources[which].nbytes || n > group->sources[which].nbytes - start)
        return 0;
    size lengths[MAX_DIMENSIONS + 1], strides[MAX_DIMENSIONS + 1], out_strides[MAX_DIMENSIONS + 1], first = 0;
    byte *out = call->out;
    int ndim = chain->ndim, in_order = group->how == PLAIN;
    for (int d = ndim - 1; d >= 0; d--) {
        const Piece *piece = &group->pieces[d][number % group->n_pieces[d]];
        number /= group->n_pieces[d];
        if (!piece->n)
            return 1; /* nothing of it is wanted */
        lengths[d] = piece->n;
        strides[d] = chain->strides[d] * piece->step;
        out_strides[d] = call->strides[d];
        first += piece->inner * chain->strides[d];
        out += piece->outer * call->strides[d];
        if (piece->n != chain->shape[d] || (piece->n != 1 && chain->strides[d] != call->strides[d]))
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

static void work(Call *call)
{
    Worker *worker = get_worker();
    while (worker) {
        size group, first, stop;
        if (call->team)
            PyThread_acquire_lock(call->team->turn, WAIT_LOCK);
        while (call->next_group < call->n_groups && call->next >= call->groups[call->next_group].n) {
            call->next_group++;
            call->next = 0;
        }
        group = call->next_group;
        first = call->next;
        stop = first;
        if (group < call->n_groups) {
            size left = call->groups[group].n - first;
            stop += left < call->per_turn ? left : call->per_turn;
        }
        call->next = stop;
        if (call->team)
            PyThread_release_lock(call->team->turn);
        if (first == stop)
            break;
        Window window = {NULL, 0, 0};
        size before = 0; /* chunks of the groups before */
        for (size g = 0; g < group; g++)
            before += call->groups[g].n;
        for (size i = first; i < stop; i++)
            call->failed[before + i] = !place(worker, &window, call, &call->groups[group], i, stop);
    }
    if (worker)
        put_worker(worker);
}

static void help(void *argument)
{
    Call *call = argument;
    Team *team = call->team;
    work(call);
    PyThread_acquire_lock(team->turn, WAIT_LOCK);
    int is_last = --call->left_of_helpers == 0;
    PyThread_release_lock(team->turn);
    if (is_last)
        PyThread_release_lock(team->done); /* the call may be over by now */
}

static void run(Call *call, size n_threads)
{
    if (n_threads > call->total)
        n_threads = call->total;
    if (n_threads > MAX_THREADS)
        n_threads = MAX_THREADS;
    call->team = n_threads > 1 ? get_team() : NULL;
    if (!call->team) {
        call->per_turn = call->total ? call->total : 1;
        work(call);
        return;
    }
    call->per_turn = call->total / (8 * n_threads);
    if (call->per_turn < 1)
        call->per_turn = 1;
    /* One more than there are, so that none of them is the last before all are started. */
    call->left_of_helpers = 1;
    for (size i = 1; i < n_threads; i++) {
        PyThread_acquire_lock(call->team->turn, WAIT_LOCK);
        call->left_of_helpers++;
        PyThread_release_lock(call->team->turn);
        if (PyThread_start_new_thread(help, call) == (unsigned long)-1) {
            PyThread_acquire_lock(call->team->turn, WAIT_LOCK);
            call->left_of_helpers--;
            PyThread_release_lock(call->team->turn);
            break;
        }
    }
    work(call);
    PyThread_acquire_lock(call->team->turn, WAIT_LOCK);
    size left = --call->left_of_helpers;
    PyThread_release_lock(call->team->turn);
    if (left) {
        PyThread_acquire_lock(call->team->done, WAIT_LOCK);
    }
    put_team(call->team);
}

/* -- What Python hands over -------------------------------------------------------------------------------------------
 */

static void release_group(Group *group)
{
    for (size i = 0; i < group->n_buffers; i++)
        if (group->sources[i].fd < 0)
            PyBuffer_Release(&group->sources[i].view);
    for (int i = 0; i < group->n_views; i++)
        PyBuffer_Release(&group->views[i]);
    PyMem_Free(group->sources);
    PyMem_Free(group->all_pieces);
}

/* An array of int64, of `n` elements where that is known already. */
static const int64_t *integers(Group *group, PyObject *object, size *n)
{
    Py_buffer *view = &group->views[group->n_views];
    if (PyObject_GetBuffer(object, view, PyBUF_SIMPLE) < 0)
        return NULL;
    group->n_views++;
    if (*n < 0)
        *n = view->len / 8;
    if (view->len != *n * 8) {
        PyErr_SetString(PyExc_ValueError, "arrays of int64 of one length");
        return NULL;
    }
    return view->buf;
}

static int read_pieces(Group *group, const Call *call, PyObject *inner, PyObject *outer)
{
    int ndim = group->chain->ndim;
    if (!PyTuple_Check(inner) || !PyTuple_Check(outer) || PyTuple_Size(inner) != ndim || PyTuple_Size(outer) != ndim) {
        PyErr_SetString(PyExc_ValueError, "a tuple of lists of slices, one an axis");
        return -1;
    }
    size total = 0;
    for (int d = 0; d < ndim; d++) {
        PyObject *a = PyTuple_GetItem(inner, d), *b = PyTuple_GetItem(outer, d);
        if (!PyList_Check(a) || !PyList_Check(b) || PyList_Size(a) != PyList_Size(b) || !PyList_Size(a)) {
            PyErr_SetString(PyExc_ValueError, "two lists of slices of one length");
            return -1;
        }
        group->n_pieces[d] = PyList_Size(a);
        total += group->n_pieces[d];
    }
    group->all_pieces = PyMem_Calloc(total ? (size_t)total : 1, sizeof(Piece));
    if (!group->all_pieces) {
        PyErr_NoMemory();
        return -1;
    }
    Piece *piece = group->all_pieces;
    for (int d = 0; d < ndim; d++) {
        group->pieces[d] = piece;
        size length = group->chain->shape[d], out_length = call->shape[d];
        for (size i = 0; i < group->n_pieces[d]; i++, piece++) {
            size stop, outer_stop, outer_step;
            PyObject *a = PyList_GetItem(PyTuple_GetItem(inner, d), i);
            PyObject *b = PyList_GetItem(PyTuple_GetItem(outer, d), i);
            if (!a || !b || PySlice_Unpack(a, &piece->inner, &stop, &piece->step) < 0 ||
                PySlice_Unpack(b, &piece->outer, &outer_stop, &outer_step) < 0)
                return -1;
            piece->n = outer_stop > piece->outer ? outer_stop - piece->outer : 0;
            if (piece->inner < 0 || piece->step < 1 || piece->outer < 0 || outer_step != 1 || outer_stop > out_length ||
                (piece->n &&
                 (piece->inner >= length || piece->n - 1 > (length - 1 - piece->inner) / piece->step))) {
                PyErr_SetString(PyExc_IndexError, "a slice leaves the chunk or the output");
                return -1;
            }
        }
    }
    return 0;
}

static PyTypeObject *chain_type;

static int read_group(Group *group, const Call *call, PyObject *given)
{
    PyObject *chain, *buffers, *which, *offsets, *lengths, *numbers, *inner, *outer;
    int swapped;
    if (!PyTuple_Check(given)) {
        PyErr_SetString(PyExc_TypeError, "a group is a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(given, "O!pO!OOOOOO", chain_type, &chain, &swapped, &PyTuple_Type, &buffers, &which, &offsets,
                          &lengths, &numbers, &inner, &outer))
        return -1;
    group->chain = (Chain *)chain; /* kept alive by the tuple, which the caller holds */
    group->how = swapped ? SWAPPED : group->chain->is_boolean ? BOOLEAN : PLAIN;
    if (group->chain->ndim != call->ndim) {
        PyErr_SetString(PyExc_ValueError, "chunks have as many axes as the output");
        return -1;
    }
    group->n = -1;
    if (!(group->buffer = integers(group, which, &group->n)) || !(group->offset = integers(group, offsets, &group->n)) ||
        !(group->length = integers(group, lengths, &group->n)) || !(group->number = integers(group, numbers, &group->n)))
        return -1;
    size n_buffers = PyTuple_Size(buffers);
    group->sources = PyMem_Calloc(n_buffers ? (size_t)n_buffers : 1, sizeof(Source));
    if (!group->sources) {
        PyErr_NoMemory();
        return -1;
    }
    for (; group->n_buffers < n_buffers; group->n_buffers++) {
        PyObject *buffer = PyTuple_GetItem(buffers, group->n_buffers);
        Source *source = &group->sources[group->n_buffers];
        if (PyTuple_Check(buffer)) {
            long long file_start, file_nbytes;
            int fd;
            if (!PyArg_ParseTuple(buffer, "iLL", &fd, &file_start, &file_nbytes))
                return -1;
            if (fd < 0 || file_start < 0 || file_nbytes < 0 || file_nbytes > INT64_MAX - file_start) {
                PyErr_SetString(PyExc_ValueError, "no part of a file");
                return -1;
            }
            source->fd = fd;
            source->start = file_start;
            source->nbytes = file_nbytes;
        } else {
            if (PyObject_GetBuffer(buffer, &source->view, PyBUF_SIMPLE) < 0)
                return -1;
            source->fd = -1;
            source->nbytes = source->view.len;
        }
    }
    return read_pieces(group, call, inner, outer);
}

PyDoc_STRVAR(decode_doc,
             "decode(groups, out, n_threads, release, /)\n--\n\n"
             "Decode chunks and put them in their places.\n\n"
             "Args:\n"
             "    groups: a list of tuples (chain, swapped, buffers, which, offsets, lengths, numbers, inner, outer): which,\n"
             "        offsets, lengths, numbers: int64 of shape (n,), the buffer of each chunk, where in it, its bytes, and\n"
             "        its number in the box of pieces; buffers: bytes, or (fd, start, nbytes) of a file; inner, outer: of each axis a list of slices, one a piece.\n"
             "    out: array whose elements are as long as the chunks'.\n"
             "    n_threads: of this call, at most. release: whether to give the interpreter's lock away.\n"
             "Returns:\n"
             "    None, or a list of (group, chunk): those that have to be decoded otherwise.");

static PyObject *decode_chunks(PyObject *module, PyObject *arguments)
{
    PyObject *groups, *target, *result = NULL;
    Py_ssize_t n_threads;
    int release;
    Py_buffer out;
    Call call;
    memset(&call, 0, sizeof call);
    if (!PyArg_ParseTuple(arguments, "O!Onp", &PyList_Type, &groups, &target, &n_threads, &release))
        return NULL;
    if (PyObject_GetBuffer(target, &out, PyBUF_STRIDED | PyBUF_WRITABLE) < 0)
        return NULL;
    if (out.ndim > MAX_DIMENSIONS) {
        PyErr_SetString(PyExc_ValueError, "too many dimensions");
        goto end;
    }
    call.out = out.buf;
    call.ndim = out.ndim;
    for (int d = 0; d < out.ndim; d++) {
        call.shape[d] = out.shape[d];
        call.strides[d] = out.strides[d];
    }
    size n_groups = PyList_Size(groups);
    call.groups = PyMem_Calloc(n_groups ? (size_t)n_groups : 1, sizeof(Group));
    if (!call.groups) {
        PyErr_NoMemory();
        goto end;
    }
    for (size g = 0; g < n_groups; g++) {
        PyObject *group = PyList_GetItem(groups, g);
        call.n_groups = g + 1;
        if (!group || read_group(&call.groups[g], &call, group) < 0)
            goto end;
        if (call.groups[g].chain->itemsize != out.itemsize) {
            PyErr_SetString(PyExc_ValueError, "elements as long as the output's");
            goto end;
        }
        call.total += call.groups[g].n;
    }
    call.failed = PyMem_Malloc(call.total ? (size_t)call.total : 1);
    if (!call.failed) {
        PyErr_NoMemory();
        goto end;
    }
    memset(call.failed, 1, (size_t)call.total);
    if (release) {
        Py_BEGIN_ALLOW_THREADS
        run(&call, n_threads);
        Py_END_ALLOW_THREADS
    } else {
        run(&call, 1);
    }
    if (!memchr(call.failed, 1, (size_t)call.total)) {
        result = Py_None;
        Py_INCREF(result);
        goto end;
    }
    result = PyList_New(0);
    byte *failed = call.failed;
    for (size g = 0; result && g < n_groups; g++)
        for (size i = 0; result && i < call.groups[g].n; i++)
            if (*failed++) {
                PyObject *pair = Py_BuildValue("nn", g, i);
                if (!pair || PyList_Append(result, pair) < 0)
                    Py_CLEAR(result);
                Py_XDECREF(pair);
            }
end:
    for (size g = 0; g < call.n_groups; g++)
        release_group(&call.groups[g]);
    PyMem_Free(call.groups);
    PyMem_Free(call.failed);
    PyBuffer_Release(&out);
    return result;
}

/* -- The type of chains ------------------------------------------------------------------------------------------------
 */

static PyObject *new_chain(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *steps, *shape, *strides;
    Py_ssize_t itemsize, unit, limit;
    int is_boolean;
    if (!PyArg_ParseTuple(arguments, "O!O!O!nnpn", &PyTuple_Type, &steps, &PyTuple_Type, &shape, &PyTuple_Type, &strides,
                          &itemsize, &unit, &is_boolean, &limit))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Chain *chain = (Chain *)allocate(type, 0);
    if (!chain)
        return NULL;
    size ndim = PyTuple_Size(shape), n_steps = PyTuple_Size(steps), nbytes = itemsize, last = itemsize;
    const char *wrong = "what a chain of codecs is bound to does not fit together";
    if (ndim > MAX_DIMENSIONS || PyTuple_Size(strides) != ndim || n_steps > MAX_STEPS || itemsize < 1 || unit < 1 ||
        itemsize % unit || (is_boolean && itemsize != 1))
        goto invalid;
    chain->ndim = (int)ndim;
    chain->itemsize = itemsize;
    chain->unit = unit;
    chain->is_boolean = is_boolean;
    chain->limit = limit;
    for (size d = 0; d < ndim; d++) {
        size length = chain->shape[d] = PyLong_AsSsize_t(PyTuple_GetItem(shape, d));
        size stride = chain->strides[d] = PyLong_AsSsize_t(PyTuple_GetItem(strides, d));
        if (PyErr_Occurred())
            goto error;
        if (length < 1 || stride < itemsize || nbytes > PY_SSIZE_T_MAX / length)
            goto invalid;
        if (length > 1 && stride > (PY_SSIZE_T_MAX - last) / (length - 1))
            goto invalid;
        nbytes *= length;
        last += stride * (length - 1);
    }
    if (last > nbytes) /* an element would lie outside */
        goto invalid;
    chain->nbytes = nbytes;
    for (size i = 0; i < n_steps; i++) {
        const char *name;
        Py_ssize_t decoded, limit;
        PyObject *step = PyTuple_GetItem(steps, i);
        if (!PyTuple_Check(step))
            goto invalid;
        if (!PyArg_ParseTuple(step, "snn", &name, &decoded, &limit))
            goto error;
        int codec = 0;
        while (codec < N_CODECS && strcmp(name, codec_names[codec]))
            codec++;
        if (codec == N_CODECS || !codec_is_here[codec] || decoded < (codec == CRC32C ? -1 : 0) || limit < decoded)
            goto invalid;
        chain->steps[i].codec = codec;
        chain->steps[i].decoded = decoded;
        chain->steps[i].limit = limit;
    }
    chain->n_steps = (int)n_steps;
    return (PyObject *)chain;
invalid:
    PyErr_SetString(PyExc_ValueError, wrong);
error:
    Py_DECREF(chain);
    return NULL;
}

static void free_chain(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(chain_doc,
             "Chain(steps, shape, strides, itemsize, unit, is_boolean, limit, /)\n--\n\n"
             "Codecs bound to a chunk.\n\n"
             "Args:\n"
             "    steps: a tuple of (name, bytes of the decoded form or -1, their limit), in the order of decoding.\n"
             "    shape, strides: of the chunk, the strides in bytes, within its decoded bytes.\n"
             "    itemsize: bytes of an element. unit: bytes that are turned round where byte orders differ.\n"
             "    is_boolean: every element is made 0 or 1. limit: of the encoded bytes; more are not read from files.");

static PyType_Slot chain_slots[] = {
    {Py_tp_new, (void *)new_chain}, {Py_tp_dealloc, (void *)free_chain}, {Py_tp_doc, (void *)chain_doc}, {0, NULL}};
static PyType_Spec chain_spec = {"zarrdock.codecs._compiled.Chain", sizeof(Chain), 0, Py_TPFLAGS_DEFAULT, chain_slots};

/* -- The module --------------------------------------------------------------------------------------------------------
 */

static int add_library(PyObject *found, const char *codec, const char *version)
{
    PyObject *text = PyUnicode_FromString(version);
    int failed = !text || PyDict_SetItemString(found, codec, text) < 0;
    Py_XDECREF(text);
    return failed ? -1 : 0;
}

static int fill_module(PyObject *module)
{
    make_crc_table();
    if (!kept_lock && !(kept_lock = PyThread_allocate_lock()))
        return -1;
    if (!chain_type && !(chain_type = (PyTypeObject *)PyType_FromSpec(&chain_spec)))
        return -1;
    if (PyModule_AddObjectRef(module, "Chain", (PyObject *)chain_type) < 0)
        return -1;
    PyObject *found = PyDict_New();
    if (!found || add_library(found, "crc32c", "built in") < 0)
        goto failed;
#ifdef HAVE_ZSTD
    if (add_library(found, "zstd", ZSTD_versionString()) < 0)
        goto failed;
#endif
#ifdef HAVE_BLOSC
    if (add_library(found, "blosc", blosc_get_version_string()) < 0)
        goto failed;
#endif
#ifdef HAVE_DEFLATE
    if (add_library(found, "gzip", LIBDEFLATE_VERSION_STRING) < 0 ||
        add_library(found, "zlib", LIBDEFLATE_VERSION_STRING) < 0)
        goto failed;
#endif
#ifdef HAVE_LZ4
    if (add_library(found, "lz4", LZ4_versionString()) < 0)
        goto failed;
#endif
    int result = PyModule_AddObjectRef(module, "codecs", found);
    Py_DECREF(found);
    return result;
failed:
    Py_XDECREF(found);
    return -1;
}

static PyMethodDef methods[] = {{"decode", decode_chunks, METH_VARARGS, decode_doc}, {NULL, NULL, 0, NULL}};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, (void *)fill_module},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL}};

static PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT, "_compiled", "Chunks decoded and placed without the interpreter's lock.", 0, methods,
    module_slots,          NULL,        NULL, NULL};

PyMODINIT_FUNC PyInit__compiled(void) { return PyModuleDef_Init(&module_definition); }
