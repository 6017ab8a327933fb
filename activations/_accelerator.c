/* The accelerator: the steps that every event of a simulated machine goes through, in C.
 *
 * Nothing depends on it, and nothing behaves otherwise with it. Each function here stands for one in
 * Python, which is named above it; it works on the same objects, and hands over to that one whatever
 * is out of the ordinary. docs/accelerator.md says what is held to be true, and how it is tested.
 *
 * Two rules. State stays where Python keeps it: in the slots of its classes, and in the bytes of
 * shared_info. And no Python code runs between steps that belong together, so that no exception out
 * of a signal handler can part them.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <structmember.h>

#define NAMES(X)                                                                                   \
    X(_cancelled) X(_process_events) X(_run) X(_stopping) X(announce) X(context) X(delivery)       \
    X(done) X(next_deadline) X(set_result) X(wake)
#define DECLARE(name) static PyObject *str_##name;
NAMES(DECLARE)

static PyObject *one, *handle_type, *timer_handle_type;
static struct { Py_ssize_t callback, args, cancelled, loop, traceback, repr, context; } handle;

/* What all types here begin with; then the objects come that one holds, and then the rest. */
#define BASE PyObject_HEAD Py_buffer page /* shared_info */; Py_ssize_t held /* so many objects */;
typedef struct { BASE PyObject *objects[]; } Base;
#define HELD(type, after) ((offsetof(type, after) - offsetof(Base, objects)) / sizeof(PyObject *))

static int traverse(Base *self, visitproc visit, void *arg) {
    for (Py_ssize_t i = 0; i < self->held; i++) Py_VISIT(self->objects[i]);
    return 0;
}

static int clear(Base *self) {
    for (Py_ssize_t i = 0; i < self->held; i++) Py_CLEAR(self->objects[i]);
    return 0;
}

static void dealloc(Base *self) {
    PyObject_GC_UnTrack(self);
    clear(self);
    PyBuffer_Release(&self->page);
    Py_TYPE(self)->tp_free(self);
}

/* Parse the arguments of `__init__` into the objects, and hold them. */
static int hold(void *object, Py_ssize_t held, PyObject *args, const char *format, ...) {
    Base *self = object;
    va_list where;
    if (self->held) return PyErr_SetString(PyExc_TypeError, "this is made once"), -1;
    va_start(where, format);
    int parsed = PyArg_VaParse(args, format, where);
    va_end(where);
    for (Py_ssize_t i = 0; i < held; i++)
        if (parsed) Py_XINCREF(self->objects[i]);
        else self->objects[i] = NULL;
    self->held = held;
    return parsed ? 0 : -1;
}

/* An attribute by a name that is interned: the types' cache would fill with any other. */
static PyObject *get(PyObject *object, const char *name) {
    PyObject *interned = PyUnicode_InternFromString(name);
    PyObject *found = interned == NULL ? NULL : PyObject_GetAttr(object, interned);
    Py_XDECREF(interned);
    return found;
}

/* Where a class keeps what it has slots for: a name and a Py_ssize_t each, NULL at the end. */
static int slots(void *type, ...) {
    va_list those;
    va_start(those, type);
    for (const char *name; !PyErr_Occurred() && (name = va_arg(those, const char *)) != NULL;) {
        PyObject *found = get(type, name);
        PyMemberDef *member = found != NULL && Py_IS_TYPE(found, &PyMemberDescr_Type)
            ? ((PyMemberDescrObject *)found)->d_member : NULL;
        if (member != NULL && member->type == T_OBJECT_EX)
            *va_arg(those, Py_ssize_t *) = member->offset;
        else PyErr_Format(PyExc_TypeError, "%R has no slot %s", type, name);
        Py_XDECREF(found);
    }
    va_end(those);
    return PyErr_Occurred() ? -1 : 0;
}
#define SLOT(object, offset) (*(PyObject **)((char *)(object) + (offset)))

static void put(PyObject *object, Py_ssize_t offset, PyObject *value) {
    PyObject *before = SLOT(object, offset);
    SLOT(object, offset) = Py_NewRef(value);
    Py_XDECREF(before);
}

static int add(PyObject *object, Py_ssize_t offset, PyObject *amount) {
    PyObject *sum = PyNumber_Add(SLOT(object, offset), amount);
    if (sum != NULL) put(object, offset, sum);
    Py_XDECREF(sum);
    return sum == NULL ? -1 : 0;
}

/* Whether a call went well whose result nobody wants. */
static int well(PyObject *result) {
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* A result as a truth: -1 where there is none. */
static int truth(PyObject *result) {
    int true_or_not = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return true_or_not;
}

/* ---- Turn: what an event loop does over and over ---------------------------------------------- */

typedef struct {
    BASE PyObject *loop, *sleepers, *ports, *ready, *port_type, *report, *plain_call_soon;
    PyObject *block, *poll, *demux, *unmask, *time_ns; /* the lower half's */
    PyObject *append, *popleft;
    Py_ssize_t heap, count, seen, waiters, woken, coalesced, last;
    char closed;
} Turn;

static int Turn_init(Turn *self, PyObject *args, PyObject *Py_UNUSED(kwargs)) {
    if (hold(self, HELD(Turn, heap), args, "OOO!OO!OOOOOOO:Turn", &self->loop, &self->sleepers,
             &PyDict_Type, &self->ports, &self->ready, &PyType_Type, &self->port_type,
             &self->report, &self->plain_call_soon, &self->block, &self->poll, &self->demux,
             &self->unmask, &self->time_ns) < 0 ||
        (self->append = get(self->ready, "append")) == NULL ||
        (self->popleft = get(self->ready, "popleft")) == NULL ||
        slots(Py_TYPE(self->sleepers), "heap", &self->heap, NULL) < 0)
        return -1;
    return slots(self->port_type, "_count", &self->count, "_seen", &self->seen, "_waiters",
                 &self->waiters, "_woken", &self->woken, "_coalesced", &self->coalesced, "_last",
                 &self->last, NULL);
}

/* EventLoop.call_soon and Handle.__init__, out of debug mode */
static PyObject *Turn_call_soon(Turn *self, PyObject *const *args, Py_ssize_t count,
                                PyObject *names) {
    int named = names != NULL && PyTuple_GET_SIZE(names) == 1 &&
        PyUnicode_Compare(PyTuple_GET_ITEM(names, 0), str_context) == 0;
    if (self->closed || count < 1 || (names != NULL && !named))
        return PyObject_Vectorcall(self->plain_call_soon, args, count, names);
    PyObject *others = PyTuple_New(count - 1);
    PyObject *made = others == NULL ? NULL : PyType_GenericAlloc((PyTypeObject *)handle_type, 0);
    if (made == NULL) return Py_XDECREF(others), NULL;
    for (Py_ssize_t i = 1; i < count; i++) PyTuple_SET_ITEM(others, i - 1, Py_NewRef(args[i]));
    SLOT(made, handle.callback) = Py_NewRef(args[0]);
    SLOT(made, handle.args) = others;
    SLOT(made, handle.cancelled) = Py_NewRef(Py_False);
    SLOT(made, handle.loop) = Py_NewRef(self->loop);
    SLOT(made, handle.traceback) = Py_NewRef(Py_None);
    SLOT(made, handle.repr) = Py_NewRef(Py_None);
    SLOT(made, handle.context) = named && args[count] != Py_None ? Py_NewRef(args[count])
                                                                 : PyContext_CopyCurrent();
    if (SLOT(made, handle.context) == NULL || well(PyObject_CallOneArg(self->append, made)) < 0)
        Py_CLEAR(made);
    return made;
}

/* Handle._run: what its callback raised is for the loop's exception handler, but for two */
static int report(Turn *self, PyObject *entry) {
    if (PyErr_ExceptionMatches(PyExc_SystemExit) || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
        return -1;
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (trace != NULL) PyException_SetTraceback(error, trace);
    int told = well(PyObject_CallFunction(self->report, "ON", entry, error));
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return told;
}

/* BaseEventLoop._run_once and Handle._run: one of what is ready */
static int run(Turn *self, PyObject *entry) {
    PyObject *type = (PyObject *)Py_TYPE(entry);
    int ours = type == handle_type || type == timer_handle_type;
    PyObject *context = ours ? SLOT(entry, handle.context) : NULL;
    PyObject *args = ours ? SLOT(entry, handle.args) : NULL, *result = NULL;
    if (ours && SLOT(entry, handle.cancelled) == Py_True) return 0;
    if (context == NULL || !PyContext_CheckExact(context) || args == NULL || !PyTuple_Check(args)) {
        int cancelled = truth(PyObject_GetAttr(entry, str__cancelled));
        if (cancelled != 0) return cancelled < 0 ? -1 : 0;
        return well(PyObject_CallMethodNoArgs(entry, str__run));
    }
    PyObject *callback = Py_NewRef(SLOT(entry, handle.callback));
    Py_INCREF(context);
    Py_INCREF(args);
    if (PyContext_Enter(context) == 0) {
        result = PyObject_Call(callback, args, NULL);
        if (PyContext_Exit(context) < 0) Py_CLEAR(result);
    }
    Py_DECREF(callback);
    Py_DECREF(args);
    Py_DECREF(context);
    return result != NULL ? well(result) : report(self, entry);
}

/* Port._fire: complete the futures of those who wait */
static int complete(Turn *self, PyObject *port, PyObject *waiters) {
    PyObject *woken = PyLong_FromSsize_t(PyDict_GET_SIZE(waiters)), *waiter, *none;
    int state = woken == NULL ? -1 : 0;
    for (Py_ssize_t at = 0; state == 0 && PyDict_Next(waiters, &at, &waiter, &none);) {
        Py_INCREF(waiter);
        int ended = truth(PyObject_CallMethodNoArgs(waiter, str_done));
        if (ended == 0) ended = well(PyObject_CallMethodOneArg(waiter, str_set_result, Py_None));
        state = ended < 0 ? -1 : 0;
        Py_DECREF(waiter);
    }
    if (state == 0 && (state = add(port, self->woken, woken)) == 0) PyDict_Clear(waiters);
    Py_XDECREF(woken);
    return state;
}

/* Port._fire */
static int fire(Turn *self, PyObject *port, PyObject *now) {
    PyObject *waiters = SLOT(port, self->waiters);
    if (PyDict_GET_SIZE(waiters) > 0) {
        if (complete(self, port, waiters) < 0) return -1;
    } else {
        int more = PyObject_RichCompareBool(SLOT(port, self->count), SLOT(port, self->seen), Py_NE);
        if (more < 0 || (more && add(port, self->coalesced, one) < 0)) return -1;
    }
    if (add(port, self->count, one) < 0) return -1;
    put(port, self->last, now);
    return 0;
}

/* Idle.select: fire the ports that a demux gave, and unmask them */
static int deliver(Turn *self, PyObject *fired) {
    PyObject *now = PyObject_CallNoArgs(self->time_ns);
    PyObject *numbers = now == NULL ? NULL : PySequence_Fast(fired, "ports that fired");
    int state = numbers == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; state == 0 && i < PySequence_Fast_GET_SIZE(numbers); i++) {
        PyObject *port = PyDict_GetItemWithError(self->ports, PySequence_Fast_GET_ITEM(numbers, i));
        if (port != NULL && !Py_IS_TYPE(port, (PyTypeObject *)self->port_type))
            PyErr_SetString(PyExc_TypeError, "a loop's ports are of class Port");
        Py_XINCREF(port);
        state = PyErr_Occurred() ? -1 : port == NULL ? 0 : fire(self, port, now);
        Py_XDECREF(port);
    }
    Py_XDECREF(numbers);
    Py_XDECREF(now);
    return state < 0 ? -1 : well(PyObject_CallOneArg(self->unmask, fired));
}

/* Idle.select: block, or look. Which descriptors are ready; NULL for an error */
static PyObject *rest(Turn *self) {
    Py_ssize_t busy = PyObject_Size(self->ready);
    if (busy == 0) busy = truth(PyObject_GetAttr(self->loop, str__stopping));
    if (busy < 0) return NULL;
    if (busy) return PyObject_CallNoArgs(self->poll);
    int any_sleeps = PyList_GET_SIZE(SLOT(self->sleepers, self->heap)) > 0;
    PyObject *deadline = any_sleeps ? PyObject_CallMethodNoArgs(self->sleepers, str_next_deadline)
                                    : Py_NewRef(Py_None);
    if (deadline == NULL) return NULL;
    PyObject *descriptors = PyObject_CallOneArg(self->block, deadline);
    Py_DECREF(deadline);
    return descriptors;
}

/* Idle.select: demux, and wake who slept long enough */
static int take(Turn *self) {
    PyObject *fired = PyObject_CallNoArgs(self->demux);
    Py_ssize_t count = fired == NULL ? -1 : PyObject_Size(fired);
    int state = count < 0 ? -1 : count == 0 ? 0 : deliver(self, fired);
    Py_XDECREF(fired);
    if (state < 0 || PyList_GET_SIZE(SLOT(self->sleepers, self->heap)) == 0) return state;
    PyObject *now = PyObject_CallNoArgs(self->time_ns);
    if (now == NULL) return -1;
    state = well(PyObject_CallMethodObjArgs(self->sleepers, str_wake, now, self->ready, NULL));
    Py_DECREF(now);
    return state;
}

/* BaseEventLoop._run_once, of a loop that has none of asyncio's timers and is not debugged */
static PyObject *Turn_run_once(Turn *self, PyObject *Py_UNUSED(none)) {
    PyObject *descriptors = rest(self);
    if (descriptors == NULL) return NULL;
    int state = take(self), any = descriptors == Py_None ? 0 : PyObject_IsTrue(descriptors);
    if (state == 0 && any > 0)
        state = well(PyObject_CallMethodOneArg(self->loop, str__process_events, descriptors));
    Py_DECREF(descriptors);
    if (state < 0 || any < 0) return NULL;
    for (Py_ssize_t count = PyObject_Size(self->ready); count > 0; count--) {
        PyObject *entry = PyObject_CallNoArgs(self->popleft);
        state = entry == NULL ? -1 : run(self, entry);
        Py_XDECREF(entry);
        if (state < 0) return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- shared_info, as xen/include/public/xen.h lays it out: the two-level ABI's words ------------ */

enum { SHARED_INFO = 4096, PORTS = 4096, VCPUS = 32, VCPU_INFO = 64 };
enum { UPCALL_PENDING = 0, PENDING_SEL = 8, EVTCHN_PENDING = 2048, EVTCHN_MASK = 2560 };
#define WORDS(self, offset) ((uint64_t *)((char *)(self)->page.buf + (offset)))
#define UPCALL(self, vcpu) ((unsigned char *)(self)->page.buf + (vcpu) * VCPU_INFO + UPCALL_PENDING)

/* How `hold` parses a domain's shared_info. */
static int map(PyObject *bytes, void *page) {
    if (PyObject_GetBuffer(bytes, page, PyBUF_WRITABLE) < 0) return 0;
    Py_buffer *got = page;
    if (got->len == SHARED_INFO && (uintptr_t)got->buf % sizeof(uint64_t) == 0) return 1;
    PyErr_SetString(PyExc_ValueError, "shared_info is a page of memory");
    return 0;
}

/* ---- Announce: how one vCPU is told of events on its upcall vector ------------------------------ */

typedef struct {
    BASE PyObject *cpu, *polling, *bit, *queue, *apic, *append;
    Py_ssize_t vcpu, irr, due, asleep;
} Announce;

static int Announce_init(Announce *self, PyObject *args, PyObject *Py_UNUSED(kwargs)) {
    if (hold(self, HELD(Announce, vcpu), args, "OO!O!OnO&:Announce", &self->cpu,
             &PyDict_Type, &self->polling, &PyLong_Type, &self->bit, &self->queue, &self->vcpu,
             map, &self->page) < 0 ||
        (self->apic = get(self->cpu, "apic")) == NULL ||
        (self->append = get(self->queue, "append")) == NULL ||
        slots(Py_TYPE(self->apic), "irr", &self->irr, NULL) < 0 ||
        slots(Py_TYPE(self->cpu), "due", &self->due, "asleep", &self->asleep, NULL) < 0)
        return -1;
    if (0 <= self->vcpu && self->vcpu < VCPUS) return 0;
    PyErr_SetString(PyExc_ValueError, "there are 32 vCPUs in shared_info");
    return -1;
}

/* UpcallVector.announce, CPU.interrupt and Scheduler.wake */
static PyObject *Announce_call(Announce *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kw)) {
    PyObject *irr = SLOT(self->apic, self->irr), *both = PyNumber_Or(irr, self->bit);
    int new = both == NULL ? -1 : PyObject_RichCompareBool(irr, both, Py_NE);
    if (new > 0) {
        put(self->apic, self->irr, both);
        put(self->cpu, self->due, Py_True);
        if (SLOT(self->cpu, self->asleep) == Py_True) {
            new = well(PyObject_CallOneArg(self->append, self->cpu));
            put(self->cpu, self->asleep, Py_False);
        }
    }
    Py_XDECREF(both);
    return new < 0 ? NULL : Py_NewRef(Py_None);
}

/* PlainTwoLevel.set_pending, where nobody polls: whether the vCPU is to be told */
static int set_pending(Announce *self, Py_ssize_t port) {
    uint64_t bit = UINT64_C(1) << port % 64, selected = UINT64_C(1) << port / 64;
    uint64_t *pending = WORDS(self, EVTCHN_PENDING) + port / 64;
    uint64_t *selector = WORDS(self, self->vcpu * VCPU_INFO + PENDING_SEL);
    if (*pending & bit) return 0;
    *pending |= bit;
    if (WORDS(self, EVTCHN_MASK)[port / 64] & bit || *selector & selected) return 0;
    *selector |= selected;
    int told = *UPCALL(self, self->vcpu) & 1;
    *UPCALL(self, self->vcpu) |= 1;
    return !told;
}

/* ---- Send: the hypercall that every event begins with ------------------------------------------ */

typedef struct {
    BASE PyObject *sender, *channel_type, *ops_type, *plain;
    Py_ssize_t channels, ops, vcpus, peer, remote_port, vcpu;
} Send;
static PyTypeObject AnnounceType;

static int Send_init(Send *self, PyObject *args, PyObject *Py_UNUSED(kwargs)) {
    if (hold(self, HELD(Send, channels), args, "OO!O!O:Send", &self->sender, &PyType_Type,
             &self->channel_type, &PyType_Type, &self->ops_type, &self->plain) < 0 ||
        slots(Py_TYPE(self->sender), "_channels", &self->channels, "ops", &self->ops, "vcpus",
              &self->vcpus, NULL) < 0)
        return -1;
    return slots(self->channel_type, "peer", &self->peer, "remote_port", &self->remote_port, "vcpu",
                 &self->vcpu, NULL);
}

/* Whom an event through this port is for; NULL where that is for Python to find out */
static Announce *target(Send *self, PyObject *port, Py_ssize_t *theirs) {
    PyObject *ours = PyDict_GetItemWithError(SLOT(self->sender, self->channels), port);
    PyObject *peer = ours == NULL ? NULL : SLOT(ours, self->peer);
    if (peer == NULL || !Py_IS_TYPE(peer, Py_TYPE(self->sender)) ||
        !Py_IS_TYPE(SLOT(peer, self->ops), (PyTypeObject *)self->ops_type))
        return NULL;
    PyObject *remote_port = SLOT(ours, self->remote_port), *vcpus = SLOT(peer, self->vcpus);
    PyObject *other = PyDict_GetItemWithError(SLOT(peer, self->channels), remote_port);
    PyObject *vcpu = other == NULL ? NULL : PyObject_GetItem(vcpus, SLOT(other, self->vcpu));
    PyObject *delivery = vcpu == NULL ? NULL : PyObject_GetAttr(vcpu, str_delivery);
    PyObject *announce = delivery == NULL ? NULL : PyObject_GetAttr(delivery, str_announce);
    Py_XDECREF(vcpu);
    Py_XDECREF(delivery);
    *theirs = other == NULL ? -1 : PyLong_AsSsize_t(remote_port);
    if (announce != NULL && Py_IS_TYPE(announce, &AnnounceType) && 0 < *theirs && *theirs < PORTS &&
        PyDict_GET_SIZE(((Announce *)announce)->polling) == 0)
        return (Announce *)announce;
    Py_XDECREF(announce);
    return NULL;
}

/* EventChannels.send, to another domain on the two-level ABI */
static PyObject *Send_send(Send *self, PyObject *port) {
    Py_ssize_t theirs;
    Announce *announce = target(self, port, &theirs);
    if (announce == NULL)
        return PyErr_Occurred() ? NULL : PyObject_CallOneArg(self->plain, port);
    PyObject *told = set_pending(announce, theirs) ? Announce_call(announce, NULL, NULL)
                                                   : Py_NewRef(Py_None);
    Py_DECREF(announce);
    return told;
}

/* ---- Fused: the demux of Solo5's lower half under an event loop -------------------------------- */

typedef struct { BASE PyObject *taken, *plain_unmask; } Fused;

static int Fused_init(Fused *self, PyObject *args, PyObject *Py_UNUSED(kwargs)) {
    return hold(self, 2, args, "O!OO&:Fused", &PyList_Type, &self->taken, &self->plain_unmask, map,
                &self->page);
}

/* FusedSolo5.demux */
static PyObject *Fused_demux(Fused *self, PyObject *Py_UNUSED(none)) {
    uint64_t *selector = WORDS(self, PENDING_SEL), *pending = WORDS(self, EVTCHN_PENDING);
    if (!*UPCALL(self, 0)) return Py_NewRef(self->taken);
    for (uint64_t selected = *selector; selected; selected &= selected - 1) {
        int word = __builtin_ctzll(selected);
        uint64_t ready = pending[word] & ~WORDS(self, EVTCHN_MASK)[word];
        for (uint64_t left = ready; left; left &= left - 1) {
            PyObject *port = PyLong_FromLong(word * 64 + __builtin_ctzll(left));
            int noted = port == NULL ? -1 : PyList_Append(self->taken, port);
            Py_XDECREF(port);
            if (noted < 0) return NULL;
        }
        pending[word] ^= ready;
    }
    *selector = *UPCALL(self, 0) = 0;
    return Py_NewRef(self->taken);
}

/* FusedSolo5.unmask */
static PyObject *Fused_unmask(Fused *self, PyObject *ports) {
    if (ports != self->taken) return PyObject_CallOneArg(self->plain_unmask, ports);
    return PyList_SetSlice(ports, 0, PyList_GET_SIZE(ports), NULL) < 0 ? NULL : Py_NewRef(Py_None);
}

/* fence.new_fence: no load after it overtakes a store before it */
static PyObject *fence(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
    __sync_synchronize();
    Py_RETURN_NONE;
}

/* ---- The module ------------------------------------------------------------------------------- */

#define METHOD(type, name, flags) {#name, (PyCFunction)(void (*)(void))type##_##name, flags, NULL}
#define TYPE(name, ...)                                                                            \
    static PyTypeObject name##Type = {                                                             \
        PyVarObject_HEAD_INIT(NULL, 0).tp_name = "activations._accelerator." #name,                \
        .tp_basicsize = sizeof(name), .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,         \
        .tp_new = PyType_GenericNew, .tp_init = (initproc)name##_init,                             \
        .tp_dealloc = (destructor)dealloc, .tp_traverse = (traverseproc)traverse,                  \
        .tp_clear = (inquiry)clear, __VA_ARGS__}

static PyMethodDef functions[] = {{"fence", fence, METH_NOARGS, NULL}, {0}};
static PyMethodDef turn_methods[] = {
    METHOD(Turn, call_soon, METH_FASTCALL | METH_KEYWORDS), METHOD(Turn, run_once, METH_NOARGS), {0}};
static PyMemberDef turn_members[] = {{"closed", T_BOOL, offsetof(Turn, closed), 0, NULL}, {0}};
static PyMethodDef send_methods[] = {METHOD(Send, send, METH_O), {0}};
static PyMethodDef fused_methods[] = {METHOD(Fused, demux, METH_NOARGS),
    METHOD(Fused, unmask, METH_O), {0}};
TYPE(Turn, .tp_methods = turn_methods, .tp_members = turn_members);
TYPE(Announce, .tp_call = (ternaryfunc)Announce_call);
TYPE(Send, .tp_methods = send_methods);
TYPE(Fused, .tp_methods = fused_methods);

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_accelerator", .m_doc = "See docs/accelerator.md.",
    .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit__accelerator(void) {
#define INTERN(name) if ((str_##name = PyUnicode_InternFromString(#name)) == NULL) return NULL;
    NAMES(INTERN)
    PyObject *asyncio = PyImport_ImportModule("asyncio");
    if ((one = PyLong_FromLong(1)) == NULL || asyncio == NULL ||
        (handle_type = get(asyncio, "Handle")) == NULL ||
        (timer_handle_type = get(asyncio, "TimerHandle")) == NULL ||
        slots(handle_type, "_callback", &handle.callback, "_args", &handle.args, "_cancelled",
              &handle.cancelled, "_loop", &handle.loop, "_source_traceback", &handle.traceback,
              "_repr", &handle.repr, "_context", &handle.context, NULL) < 0)
        return NULL;
    PyObject *module = PyModule_Create(&definition);
    PyTypeObject *types[] = {&TurnType, &AnnounceType, &SendType, &FusedType};
    for (size_t i = 0; module != NULL && i < sizeof types / sizeof *types; i++)
        if (PyModule_AddType(module, types[i]) < 0) Py_CLEAR(module);
    if (module != NULL && PyModule_AddStringConstant(module, "SOURCE", SOURCE) < 0) Py_CLEAR(module);
    return module;
}
