/* Many chunks decoded and put in their places, or gathered and encoded, by one call, without the interpreter's lock.
 *
 * Nothing here is needed: what a chunk's bytes have to be is defined by the codecs in Python. This file knows the plain
 * case of the common ones. Whatever is not that, from an honest second zstd frame to a damaged byte, is left alone and
 * reported by its number; the Python codecs then decode it, or say what is wrong with it. So there are no error messages
 * here, and no bytes are accepted that Python would refuse.
 *
 * Hostile bytes: see _chunks.h, which does the work.
 *
 * Threads run no Python code. What they share is behind one lock.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <limits.h>

#include "_chunks.h"

#define MAX_THREADS 256
/* A worker gives larger memory back when its call is over. */
#define KEPT_NBYTES (4 << 20)
#define KEPT_WORKERS 64

/* -- What is kept from call to call ----------------------------------------------------------------------------------- */

/* The threads of a call. It outlives the call: who comes too late finds no call and leaves, and is not waited for. So a
 * call is over once its work is done, however long a busy machine takes to begin a thread. The locks are never freed. */
typedef struct Team {
    struct Team *next;
    PyThread_type_lock turn, done;
    /* behind the lock `turn` */
    struct Call *call;  /* NULL: it is over, or nothing is left to do */
    size n_working, n_users; /* helpers at work; helpers that have not left, and the caller */
} Team;

/* What is kept from call to call. It is only ever tried for: after a fork the lock may be held for good. */
static PyThread_type_lock kept_lock;
static Worker *kept_workers;
static int n_kept_workers;
static Team *kept_teams;

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

/* -- A call ------------------------------------------------------------------------------------------------------------
 */

typedef struct {
    PyObject_HEAD
    Chain chain;
} ChainObject;

/* A group, and what has to be let go once its chunks are decoded. */
typedef struct {
    Group of;
    Py_buffer arrays[4];
    int n_arrays;
    Py_buffer *buffers;
    size n_buffers;
    Piece *pieces;
} Given;

/* The encoded bytes of a chunk. */
typedef struct {
    byte *data;
    size nbytes;
} Packed;

typedef struct Call {
    Given *groups;
    size n_groups;
    size total, per_turn;
    Output output; /* or, of encoding, what is read */
    Packed *packed; /* NULL: chunks are decoded */
    const byte *fill;
    Team *team;
    /* behind the lock */
    size next_group, next;
    byte *failed;
} Call;

static void work(Call *call)
{
    Worker *worker = get_worker();
    while (worker) {
        size group, first, stop;
        if (call->team)
            PyThread_acquire_lock(call->team->turn, WAIT_LOCK);
        while (call->next_group < call->n_groups && call->next >= call->groups[call->next_group].of.n) {
            call->next_group++;
            call->next = 0;
        }
        group = call->next_group;
        first = call->next;
        stop = first;
        if (group < call->n_groups) {
            size left = call->groups[group].of.n - first;
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
            before += call->groups[g].of.n;
        for (size i = first; i < stop; i++)
            if (call->packed)
                call->failed[before + i] = !pack(worker, &call->output, &call->groups[group].of, i, call->fill,
                                                 &call->packed[before + i].data, &call->packed[before + i].nbytes);
            else
                call->failed[before + i] = !place(worker, &window, &call->output, &call->groups[group].of, i, stop);
    }
    if (worker)
        put_worker(worker);
}

/* One user less; the last one gives the team back. */
static void leave(Team *team)
{
    PyThread_acquire_lock(team->turn, WAIT_LOCK);
    int is_last = --team->n_users == 0;
    PyThread_release_lock(team->turn);
    if (is_last)
        put_team(team);
}

static void help(void *argument)
{
    Team *team = argument;
    PyThread_acquire_lock(team->turn, WAIT_LOCK);
    Call *call = team->call;
    team->n_working += call != NULL;
    PyThread_release_lock(team->turn);
    if (call) {
        work(call);
        PyThread_acquire_lock(team->turn, WAIT_LOCK);
        int is_waited_for = --team->n_working == 0 && !team->call;
        PyThread_release_lock(team->turn);
        if (is_waited_for)
            PyThread_release_lock(team->done); /* the call may be over by now */
    }
    leave(team);
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
    Team *team = call->team;
    PyThread_acquire_lock(team->turn, WAIT_LOCK);
    team->call = call;
    team->n_users = n_threads; /* with the caller */
    PyThread_release_lock(team->turn);
    for (size i = 1; i < n_threads; i++)
        if (PyThread_start_new_thread(help, team) == (unsigned long)-1) {
            PyThread_acquire_lock(team->turn, WAIT_LOCK);
            team->n_users -= n_threads - i;
            PyThread_release_lock(team->turn);
            break;
        }
    work(call);
    PyThread_acquire_lock(team->turn, WAIT_LOCK);
    team->call = NULL;
    int must_wait = team->n_working > 0;
    PyThread_release_lock(team->turn);
    if (must_wait)
        PyThread_acquire_lock(team->done, WAIT_LOCK);
    leave(team);
}

/* -- What Python hands over -------------------------------------------------------------------------------------------
 */

static void release(Given *given)
{
    for (size i = 0; i < given->n_buffers; i++)
        PyBuffer_Release(&given->buffers[i]);
    for (int i = 0; i < given->n_arrays; i++)
        PyBuffer_Release(&given->arrays[i]);
    PyMem_Free(given->buffers);
    PyMem_Free(given->of.sources);
    PyMem_Free(given->pieces);
}

/* An array of int64, of `n` elements where that is known already. */
static const int64_t *integers(Given *given, PyObject *object, size *n)
{
    Py_buffer *view = &given->arrays[given->n_arrays];
    if (PyObject_GetBuffer(object, view, PyBUF_SIMPLE) < 0)
        return NULL;
    given->n_arrays++;
    if (*n < 0)
        *n = view->len / 8;
    if (view->len != *n * 8) {
        PyErr_SetString(PyExc_ValueError, "arrays of int64 of one length");
        return NULL;
    }
    return view->buf;
}

/* Buffers, or parts of files. */
static int read_sources(Given *given, PyObject *sources)
{
    size n = PyTuple_Size(sources);
    given->of.sources = PyMem_Calloc(n ? (size_t)n : 1, sizeof(Source));
    given->buffers = PyMem_Calloc(n ? (size_t)n : 1, sizeof(Py_buffer));
    if (!given->of.sources || !given->buffers) {
        PyErr_NoMemory();
        return -1;
    }
    for (size i = 0; i < n; i++) {
        PyObject *object = PyTuple_GetItem(sources, i);
        Source *source = &given->of.sources[i];
        if (PyTuple_Check(object)) {
            long long start, nbytes;
            if (!PyArg_ParseTuple(object, "iLL", &source->fd, &start, &nbytes))
                return -1;
            if (source->fd < 0 || start < 0 || nbytes < 0 || nbytes > INT64_MAX - start) {
                PyErr_SetString(PyExc_ValueError, "no part of a file");
                return -1;
            }
            source->start = start;
            source->nbytes = nbytes;
        } else {
            Py_buffer *view = &given->buffers[given->n_buffers];
            if (PyObject_GetBuffer(object, view, PyBUF_SIMPLE) < 0)
                return -1;
            given->n_buffers++;
            source->fd = -1;
            source->data = view->buf;
            source->nbytes = view->len;
        }
    }
    given->of.n_sources = n;
    return 0;
}

static int read_pieces(Given *given, const Output *output, PyObject *inner, PyObject *outer)
{
    int ndim = given->of.chain->ndim;
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
        given->of.n_pieces[d] = PyList_Size(a);
        total += given->of.n_pieces[d];
    }
    Piece *piece = given->pieces = PyMem_Calloc(total ? (size_t)total : 1, sizeof(Piece));
    if (!piece) {
        PyErr_NoMemory();
        return -1;
    }
    for (int d = 0; d < ndim; d++) {
        given->of.pieces[d] = piece;
        for (size i = 0; i < given->of.n_pieces[d]; i++, piece++) {
            size stop, outer_stop, outer_step;
            PyObject *a = PyList_GetItem(PyTuple_GetItem(inner, d), i);
            PyObject *b = PyList_GetItem(PyTuple_GetItem(outer, d), i);
            if (!a || !b || PySlice_Unpack(a, &piece->inner, &stop, &piece->step) < 0 ||
                PySlice_Unpack(b, &piece->outer, &outer_stop, &outer_step) < 0)
                return -1;
            if (outer_step != 1 || piece->outer < 0 || outer_stop < piece->outer)
                piece->n = -1;
            else
                piece->n = outer_stop - piece->outer;
            if (!fits(piece, given->of.chain->shape[d], output->shape[d])) {
                PyErr_SetString(PyExc_IndexError, "a slice leaves the chunk or the output");
                return -1;
            }
        }
    }
    return 0;
}

static PyTypeObject *chain_type;

static int read_group(Given *given, const Output *output, PyObject *group)
{
    PyObject *chain, *sources, *which, *offsets, *lengths, *numbers, *inner, *outer;
    int swapped;
    if (!PyTuple_Check(group)) {
        PyErr_SetString(PyExc_TypeError, "a group is a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(group, "O!pO!OOOOOO", chain_type, &chain, &swapped, &PyTuple_Type, &sources, &which, &offsets,
                          &lengths, &numbers, &inner, &outer))
        return -1;
    given->of.chain = &((ChainObject *)chain)->chain; /* kept alive by the tuple, which the caller holds */
    given->of.how = swapped ? SWAPPED : given->of.chain->is_boolean ? BOOLEAN : PLAIN;
    if (given->of.chain->ndim != output->ndim) {
        PyErr_SetString(PyExc_ValueError, "chunks have as many axes as the output");
        return -1;
    }
    size n = -1;
    if (!(given->of.buffer = integers(given, which, &n)) || !(given->of.offset = integers(given, offsets, &n)) ||
        !(given->of.length = integers(given, lengths, &n)) || !(given->of.number = integers(given, numbers, &n)))
        return -1;
    given->of.n = n;
    return read_sources(given, sources) < 0 ? -1 : read_pieces(given, output, inner, outer);
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
    (void)module;
    PyObject *groups, *target, *result = NULL;
    Py_ssize_t n_threads;
    int lets_go;
    Py_buffer out;
    Call call;
    memset(&call, 0, sizeof call);
    if (!PyArg_ParseTuple(arguments, "O!Onp", &PyList_Type, &groups, &target, &n_threads, &lets_go))
        return NULL;
    if (PyObject_GetBuffer(target, &out, PyBUF_STRIDED | PyBUF_WRITABLE) < 0)
        return NULL;
    if (out.ndim > MAX_DIMENSIONS) {
        PyErr_SetString(PyExc_ValueError, "too many dimensions");
        goto end;
    }
    call.output.data = out.buf;
    call.output.ndim = out.ndim;
    for (int d = 0; d < out.ndim; d++) {
        call.output.shape[d] = out.shape[d];
        call.output.strides[d] = out.strides[d];
    }
    size n_groups = PyList_Size(groups);
    call.groups = PyMem_Calloc(n_groups ? (size_t)n_groups : 1, sizeof(Given));
    if (!call.groups) {
        PyErr_NoMemory();
        goto end;
    }
    for (size g = 0; g < n_groups; g++) {
        PyObject *group = PyList_GetItem(groups, g);
        call.n_groups = g + 1;
        if (!group || read_group(&call.groups[g], &call.output, group) < 0)
            goto end;
        if (call.groups[g].of.chain->itemsize != out.itemsize) {
            PyErr_SetString(PyExc_ValueError, "elements as long as the output's");
            goto end;
        }
        call.total += call.groups[g].of.n;
    }
    call.failed = PyMem_Malloc(call.total ? (size_t)call.total : 1);
    if (!call.failed) {
        PyErr_NoMemory();
        goto end;
    }
    memset(call.failed, 1, (size_t)call.total);
    if (lets_go) {
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
        for (size i = 0; result && i < call.groups[g].of.n; i++)
            if (*failed++) {
                PyObject *pair = Py_BuildValue("nn", g, i);
                if (!pair || PyList_Append(result, pair) < 0)
                    Py_CLEAR(result);
                Py_XDECREF(pair);
            }
end:
    for (size g = 0; g < call.n_groups; g++)
        release(&call.groups[g]);
    PyMem_Free(call.groups);
    PyMem_Free(call.failed);
    PyBuffer_Release(&out);
    return result;
}

PyDoc_STRVAR(encode_doc,
             "encode(chain, swapped, array, numbers, inner, outer, fill, n_threads, release, /)\n--\n\n"
             "Gather chunks out of an array, and encode them.\n\n"
             "Args:\n"
             "    array: elements as long as the chunks'. numbers: int64 of shape (n,), of chunks in the box of pieces.\n"
             "    inner, outer: of each axis a list of slices, one a piece, within the chunk and the array.\n"
             "    fill: None, or the bytes of the element as it is stored of which a chunk may consist that is not stored.\n"
             "Returns:\n"
             "    a list with bytes for each chunk; None for one of nothing but `fill`; False for one that has to be\n"
             "    encoded otherwise.");

static PyObject *encode_chunks(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *chain, *array, *numbers, *inner, *outer, *fill, *result = NULL;
    Py_ssize_t n_threads;
    int swapped, lets_go;
    Py_buffer view, element;
    Call call;
    Given given;
    memset(&call, 0, sizeof call);
    memset(&given, 0, sizeof given);
    if (!PyArg_ParseTuple(arguments, "O!pOOOOOnp", chain_type, &chain, &swapped, &array, &numbers, &inner, &outer, &fill,
                          &n_threads, &lets_go))
        return NULL;
    if (PyObject_GetBuffer(array, &view, PyBUF_STRIDES) < 0)
        return NULL;
    element.obj = NULL;
    call.output.data = view.buf; /* is only read */
    call.output.ndim = view.ndim;
    given.of.chain = &((ChainObject *)chain)->chain;
    given.of.how = swapped ? SWAPPED : PLAIN;
    if (view.ndim > MAX_DIMENSIONS || view.ndim != given.of.chain->ndim || view.itemsize != given.of.chain->itemsize) {
        PyErr_SetString(PyExc_ValueError, "an array of the chunks' dimensions, with elements as long as theirs");
        goto end;
    }
    for (int d = 0; d < view.ndim; d++) {
        call.output.shape[d] = view.shape[d];
        call.output.strides[d] = view.strides[d];
    }
    size n = -1;
    if (!(given.of.number = integers(&given, numbers, &n)) || read_pieces(&given, &call.output, inner, outer) < 0)
        goto end;
    given.of.n = n;
    if (fill != Py_None) {
        if (PyObject_GetBuffer(fill, &element, PyBUF_SIMPLE) < 0) {
            element.obj = NULL;
            goto end;
        }
        if (element.len != view.itemsize) {
            PyErr_SetString(PyExc_ValueError, "the bytes of one element");
            goto end;
        }
        call.fill = element.buf;
    }
    call.groups = &given;
    call.n_groups = 1;
    call.total = n;
    call.failed = PyMem_Malloc(n ? (size_t)n : 1);
    call.packed = PyMem_Calloc(n ? (size_t)n : 1, sizeof(Packed));
    if (!call.failed || !call.packed) {
        PyErr_NoMemory();
        goto end;
    }
    memset(call.failed, 1, (size_t)n);
    if (lets_go) {
        Py_BEGIN_ALLOW_THREADS
        run(&call, n_threads);
        Py_END_ALLOW_THREADS
    } else {
        run(&call, 1);
    }
    result = PyList_New(n);
    for (size i = 0; result && i < n; i++) {
        const Packed *packed = &call.packed[i];
        PyObject *made = call.failed[i]   ? Py_NewRef(Py_False)
                         : !packed->data ? Py_NewRef(Py_None)
                                         : PyBytes_FromStringAndSize((const char *)packed->data, packed->nbytes);
        if (!made || PyList_SetItem(result, i, made) < 0)
            Py_CLEAR(result);
        free(call.packed[i].data); /* now, so that no chunk is held twice for long */
        call.packed[i].data = NULL;
    }
end:
    if (call.packed)
        for (size i = 0; i < call.total; i++)
            free(call.packed[i].data);
    PyMem_Free(call.packed);
    PyMem_Free(call.failed);
    if (element.obj)
        PyBuffer_Release(&element);
    release(&given);
    PyBuffer_Release(&view);
    return result;
}

/* -- The type of chains ------------------------------------------------------------------------------------------------
 */

static PyObject *new_chain(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    (void)keywords;
    PyObject *steps, *shape, *strides;
    Chain chain;
    memset(&chain, 0, sizeof chain);
    if (!PyArg_ParseTuple(arguments, "O!O!O!nnpn", &PyTuple_Type, &steps, &PyTuple_Type, &shape, &PyTuple_Type, &strides,
                          &chain.itemsize, &chain.unit, &chain.is_boolean, &chain.limit))
        return NULL;
    size ndim = PyTuple_Size(shape), n_steps = PyTuple_Size(steps);
    int fit = ndim <= MAX_DIMENSIONS && PyTuple_Size(strides) == ndim && n_steps <= MAX_STEPS;
    for (size d = 0; fit && d < ndim; d++) {
        chain.shape[d] = PyLong_AsSsize_t(PyTuple_GetItem(shape, d));
        chain.strides[d] = PyLong_AsSsize_t(PyTuple_GetItem(strides, d));
        if (PyErr_Occurred())
            return NULL;
    }
    for (size i = 0; fit && i < n_steps; i++) {
        const char *name;
        Step *step = &chain.steps[i];
        PyObject *given = PyTuple_GetItem(steps, i);
        fit = PyTuple_Check(given);
        PyObject *options = NULL;
        if (fit && !PyArg_ParseTuple(given, "snn|O", &name, &step->decoded, &step->limit, &options))
            return NULL;
        step->n_options = -1;
        if (fit && options && options != Py_None) {
            fit = PyTuple_Check(options) && PyTuple_Size(options) <= MAX_OPTIONS;
            step->n_options = fit ? (int)PyTuple_Size(options) : 0;
            for (int j = 0; j < step->n_options; j++) {
                long option = PyLong_AsLong(PyTuple_GetItem(options, j));
                if (PyErr_Occurred())
                    return NULL;
                fit = fit && option >= INT_MIN && option <= INT_MAX;
                step->options[j] = (int)option;
            }
        }
        while (fit && step->codec < N_CODECS && strcmp(name, codec_names[step->codec]))
            step->codec++;
    }
    chain.ndim = (int)ndim;
    chain.n_steps = (int)n_steps;
    if (!fit || !is_sound(&chain)) {
        PyErr_SetString(PyExc_ValueError, "what a chain of codecs is bound to does not fit together");
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    ChainObject *found = (ChainObject *)allocate(type, 0);
    if (found)
        found->chain = chain;
    return (PyObject *)found;
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
             "    steps: a tuple of (name, bytes of the decoded form or -1, their limit), in the order of decoding; behind them\n"
             "        a tuple of the numbers that encoding needs, see _chunks.h.\n"
             "    shape, strides: of the chunk, the strides in bytes, within its decoded bytes.\n"
             "    itemsize: bytes of an element. unit: bytes that are turned round where byte orders differ.\n"
             "    is_boolean: every element is made 0 or 1. limit: of the encoded bytes; more are not read from files.");

static PyType_Slot chain_slots[] = {
    {Py_tp_new, (void *)new_chain}, {Py_tp_dealloc, (void *)free_chain}, {Py_tp_doc, (void *)chain_doc}, {0, NULL}};
static PyType_Spec chain_spec = {"zarrdock.codecs._compiled.Chain", sizeof(ChainObject), 0, Py_TPFLAGS_DEFAULT, chain_slots};

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

static PyMethodDef methods[] = {{"decode", decode_chunks, METH_VARARGS, decode_doc},
                                {"encode", encode_chunks, METH_VARARGS, encode_doc},
                                {NULL, NULL, 0, NULL}};

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
