/* libFuzzer's target for codecs/_chunks.h: hostile bytes, places and indexes; and of any elements that were encoded, the
 * same are decoded. Built and run by tools/fuzz_chunks.py.
 *
 * An input is a head of 17 bytes, four bytes a chunk, and the encoded bytes:
 * chain, itemsize, flags, ndim, 3 lengths of the chunk, 3 x where its piece begins, 3 x the piece's length, 3 x its step,
 * number of chunks; of each chunk 16 bits of offset and 16 of length.
 */
#define _GNU_SOURCE
#include "../../codecs/_chunks.h"

#include <sys/mman.h>

enum { HEAD = 17, MAX_CHUNKS = 4 };
enum { SWAP = 1, BOOLEANS = 2, TRANSPOSED = 4, REVERSED = 8, WHOLE = 16, IN_FILE = 32, FAR = 64, MISFIT = 128 };

static const int chains[][4] = {
    {-1}, {CRC32C, -1}, {ZSTD, -1}, {CRC32C, ZSTD, -1}, {ZSTD, CRC32C, -1}, {BLOSC, -1},
    {GZIP, -1}, {ZLIB, -1}, {LZ4, -1}, {CRC32C, BLOSC, -1},
};
static const size itemsizes[] = {1, 2, 4, 8, 3, 16};

static Worker worker;

/* The array's elements, encoded and decoded again, are the same. */
static void round_trip(Chain *chain, const byte *head, const Output *array, const Group *group, const Output *output)
{
    static const int most[N_CODECS][MAX_OPTIONS] = {{0}, {6, 2}, {6, 10, 3, 512, 256}, {13}, {13}, {9}};
    for (int i = 0; i < chain->n_steps; i++) {
        Step *step = &chain->steps[i];
        step->n_options = n_options[step->codec];
        for (int j = 0; j < step->n_options; j++)
            step->options[j] = (head[4 + j] ^ head[10 + j]) % most[step->codec][j];
    }
    if (!is_sound(chain))
        return;
    byte *made = NULL, fill[16] = {0};
    size nbytes = 0;
    if (!pack(&worker, array, group, 0, head[16] & 128 ? fill : NULL, &made, &nbytes))
        return;
    size count = 1;
    for (int d = 0; d < chain->ndim; d++)
        count *= chain->shape[d];
    int64_t zero = 0, length = nbytes;
    byte *exact = malloc(nbytes ? nbytes : 1);
    if (made)
        memcpy(exact, made, nbytes);
    Source source = {exact, -1, 0, nbytes};
    Group back = *group;
    back.n = 1;
    back.n_sources = 1;
    back.sources = &source;
    back.buffer = back.offset = back.number = &zero;
    back.length = &length;
    Window window = {NULL, 0, 0};
    if (made) {
        chain->limit = nbytes;
        if (!place(&worker, &window, output, &back, 0, 1))
            abort();
    }
    for (size i = 0; i < count; i++) {
        const byte *a = array->data, *b = output->data;
        size rest = i;
        for (int d = chain->ndim - 1; d >= 0; d--) {
            size at = group->pieces[d]->outer + rest % chain->shape[d];
            rest /= chain->shape[d];
            a += at * array->strides[d];
            b += at * output->strides[d];
        }
        if (memcmp(a, made ? b : fill, chain->itemsize))
            abort();
    }
    free(exact);
    free(made);
}

int LLVMFuzzerTestOneInput(const byte *data, size_t n)
{
    if (n < HEAD + 4 * MAX_CHUNKS)
        return 0;
    const byte *head = data, *places = data + HEAD;
    data += HEAD + 4 * MAX_CHUNKS;
    n -= HEAD + 4 * MAX_CHUNKS;
    int flags = head[2];

    Chain chain;
    memset(&chain, 0, sizeof chain);
    chain.itemsize = chain.unit = itemsizes[head[1] % 6];
    if (head[1] & 64 && chain.itemsize % 2 == 0)
        chain.unit /= 2;
    chain.is_boolean = (flags & BOOLEANS) != 0;
    chain.ndim = head[3] % 4;
    chain.limit = 1 << 20;
    size nbytes = chain.itemsize;
    for (int i = 0; i < chain.ndim; i++) {
        int d = flags & TRANSPOSED ? i : chain.ndim - 1 - i;
        chain.shape[d] = 1 + head[4 + d] % 32;
        chain.strides[d] = nbytes;
        nbytes *= chain.shape[d];
    }
    const int *codecs = chains[head[0] % (sizeof chains / sizeof *chains)];
    for (int i = 0; codecs[i] >= 0; i++) {
        chain.steps[i].codec = codecs[i];
        chain.steps[i].decoded = codecs[i] == CRC32C && codecs[i + 1] >= 0 ? -1 : nbytes;
        if (codecs[i + 1] == CRC32C)
            chain.steps[i].decoded = nbytes + 4;
        chain.steps[i].limit = 1 << 20;
        chain.n_steps++;
    }
    if (flags & MISFIT && chain.ndim) /* is found out, or does no harm */
        chain.strides[head[3] % chain.ndim] += head[4] - 16;
    if (!is_sound(&chain))
        return 0;

    Piece pieces[3][1];
    Output output;
    Group group;
    memset(&group, 0, sizeof group);
    output.ndim = chain.ndim;
    size out_nbytes = chain.itemsize;
    for (int d = 0; d < chain.ndim; d++) {
        Piece *piece = pieces[d];
        int whole = flags & WHOLE;
        piece->inner = whole ? 0 : (int8_t)head[7 + d];
        piece->n = whole ? chain.shape[d] : (int8_t)head[10 + d];
        piece->step = whole ? 1 : (int8_t)head[13 + d];
        piece->outer = head[3] >> 4 & 3;
        output.shape[d] = chain.shape[d] + 2;
        output.strides[d] = out_nbytes;
        out_nbytes *= output.shape[d];
        if (!fits(piece, chain.shape[d], output.shape[d]))
            return 0;
        group.pieces[d] = piece;
        group.n_pieces[d] = 1;
    }
    byte *out = malloc(out_nbytes);
    output.data = out;
    if (flags & REVERSED)
        for (int d = 0; d < chain.ndim; d++) {
            output.data += output.strides[d] * (output.shape[d] - 1);
            output.strides[d] = -output.strides[d];
        }

    Source source = {NULL, -1, 0, (int64_t)n};
    byte *copy = malloc(n ? n : 1); /* of exactly that length, so that a byte too many is noticed */
    memcpy(copy, data, n);
    source.data = copy;
    if (flags & IN_FILE) {
        source.fd = memfd_create("chunks", 0);
        if (write(source.fd, data, n) != (ssize_t)n)
            abort();
        if (flags & FAR)
            source.nbytes += 4096; /* the file ends before */
    }
    int64_t zero[MAX_CHUNKS] = {0}, offsets[MAX_CHUNKS], lengths[MAX_CHUNKS];
    group.chain = &chain;
    group.how = flags & SWAP ? SWAPPED : chain.is_boolean ? BOOLEAN : PLAIN;
    group.n = 1 + head[16] % MAX_CHUNKS;
    group.n_sources = 1;
    group.sources = &source;
    group.buffer = group.number = zero;
    group.offset = offsets;
    group.length = lengths;
    for (int i = 0; i < MAX_CHUNKS; i++) {
        offsets[i] = flags & WHOLE ? 0 : places[4 * i] | places[4 * i + 1] << 8;
        lengths[i] = flags & WHOLE ? (int64_t)n : places[4 * i + 2] | places[4 * i + 3] << 8;
        if (flags & FAR && !(flags & WHOLE)) {
            offsets[i] = (int64_t)((uint64_t)offsets[i] << 48 | (uint64_t)offsets[i]);
            lengths[i] = (int64_t)((uint64_t)lengths[i] << 48 | (uint64_t)lengths[i]);
        }
    }
    Window window = {NULL, 0, 0};
    for (size i = 0; i < group.n; i++)
        place(&worker, &window, &output, &group, i, group.n);
    if (source.fd >= 0)
        close(source.fd);
    if (group.how != BOOLEAN && !(flags & MISFIT)) { /* else elements may share bytes */
        byte *elements = calloc(1, out_nbytes);
        memcpy(elements, data, n < (size_t)out_nbytes ? n : (size_t)out_nbytes);
        Output array = output;
        array.data = elements + (output.data - out);
        round_trip(&chain, head, &array, &group, &output);
        free(elements);
    }
    free(copy);
    free(out);
    return 0;
}
