/* The machine under Xen's xenstored: its process runs here as a coroutine, up to where it waits in
 * poll() for a client or a guest to do something. What it asks of the C library and of Xen's
 * libraries is answered by this file; the linker binds it to these functions, and to nothing else
 * of the same name. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "xenctrl.h"
#include <xenevtchn.h>
#include <xengnttab.h>

#include "xenstored_core.h"

#define API __attribute__((visibility("default")))
#define PAGE 4096
#define DOMAINS 16
#define CLIENTS 64
#define TRIES 20000

enum { LISTENING = 3, EVENTS, PIPE, CLIENT = 100 };
enum { VIRQ_PORT = 1, FIRST_PORT };
enum life { ABSENT, RUNNING, SHUT_DOWN, DYING };

static struct client {
    const char *input;
    size_t unread, written, room;
    char *output;
    bool open, gone, accepted;
} clients[CLIENTS];

static struct guest {
    char page[PAGE] __attribute__((aligned(PAGE)));
    enum life life;
    bool mapped, kicked;
} guests[DOMAINS];

static bool virq;
static ucontext_t driver, xenstored;
static char stack[1 << 20] __attribute__((aligned(64)));
API char stored_crash[256];

/* The heap: nothing outlives the library, which is loaded anew for each program. */

static char heap[256 << 20] __attribute__((aligned(64)));
static size_t heap_used;

struct block {
    size_t size, before;
};

void *malloc(size_t size)
{
    struct block *block = (void *)(heap + heap_used);
    *block = (struct block){ (size + 15) & ~(size_t)15, heap_used };
    heap_used += sizeof(*block) + block->size;
    if ( heap_used > sizeof(heap) )
        abort();
    return block + 1;
}

void free(void *what)
{
    char *at = what;
    if ( at < heap || at >= heap + heap_used )
        return; /* the C library's own */
    struct block *block = (struct block *)what - 1;
    if ( block->before + sizeof(*block) + block->size == heap_used )
        heap_used = block->before; /* the last one: mostly it is */
}

void *calloc(size_t many, size_t size)
{
    return memset(malloc(many * size), 0, many * size);
}

void *realloc(void *what, size_t size)
{
    if ( !what )
        return malloc(size);
    size_t before = ((struct block *)what - 1)->size;
    if ( size <= before )
        return what;
    return memcpy(malloc(size), what, before);
}

/* Ends: none that come from without. */

static void crash(const char *what, const char *file, unsigned int line)
{
    if ( !*stored_crash )
        snprintf(stored_crash, sizeof(stored_crash), "%s (%s:%u)", what, file, line);
    for ( ;; )
        swapcontext(&xenstored, &driver);
}

void __assert_fail(const char *what, const char *file, unsigned int line, const char *function)
{
    crash(what, file, line);
    abort();
}

void abort(void)
{
    crash("abort", "", 0);
    __builtin_unreachable();
}

void exit(int status)
{
    crash("exit", "", status);
    __builtin_unreachable();
}

int atexit(void (*function)(void)) { return 0; }
void (*signal(int number, void (*handler)(int)))(int) { return NULL; }

/* What it says, to nobody */

void syslog(int priority, const char *format, ...) { }
void openlog(const char *ident, int option, int facility) { }
static void say_nothing(const char *format, ...) { }

/* Clocks: a request a minute, which no rate limit minds. */

static time_t minutes;

int clock_gettime(clockid_t clock, struct timespec *now)
{
    *now = (struct timespec){ .tv_sec = 60 * minutes };
    return 0;
}

time_t time(time_t *now) { return 60 * minutes; }

/* Files and sockets */

int mkdir(const char *path, mode_t mode) { return 0; }
int unlink(const char *path) { return 0; }
int chmod(const char *path, mode_t mode) { return 0; }
int socket(int domain, int type, int protocol) { return LISTENING; }
int bind(int fd, const struct sockaddr *address, socklen_t size) { return 0; }
int listen(int fd, int backlog) { return 0; }
void init_pipe(int ends[2]) { ends[0] = ends[1] = PIPE; }
void write_pidfile(const char *path) { }
void daemonize(void) { }
void finish_daemonize(void) { }

int accept(int fd, struct sockaddr *address, socklen_t *size)
{
    for ( unsigned int i = 0; i < CLIENTS; i++ )
        if ( clients[i].open && !clients[i].accepted )
        {
            clients[i].accepted = true;
            return CLIENT + i;
        }
    errno = EAGAIN;
    return -1;
}

int close(int fd)
{
    if ( fd >= CLIENT )
        clients[fd - CLIENT].open = false;
    return 0;
}

/* Where a request has no path, xenstored answers with the error that some call before it left: this
 * is the last one before. So it is always the same. */
ssize_t read(int fd, void *into, size_t size)
{
    errno = EINVAL;
    struct client *client = &clients[fd - CLIENT];
    if ( size > client->unread )
        size = client->unread;
    if ( !size && !client->gone )
        return 0;
    memcpy(into, client->input, size);
    client->input += size;
    client->unread -= size;
    return size;
}

ssize_t write(int fd, const void *from, size_t size)
{
    struct client *client = &clients[fd - CLIENT];
    if ( !client->output )
    {
        errno = EPIPE; /* it is gone, and what waited for it is tried all the same */
        return -1;
    }
    if ( client->written + size > client->room )
        abort();
    memcpy(client->output + client->written, from, size);
    client->written += size;
    return size;
}

static short ready(int fd)
{
    if ( fd == LISTENING )
    {
        short waits = 0;
        for ( unsigned int i = 0; i < CLIENTS; i++ )
            waits |= clients[i].open && !clients[i].accepted ? POLLIN : 0;
        return waits;
    }
    if ( fd == EVENTS )
    {
        bool fired = virq;
        for ( unsigned int i = 0; i < DOMAINS; i++ )
            fired |= guests[i].kicked;
        return fired ? POLLIN : 0;
    }
    if ( fd < CLIENT )
        return 0;
    struct client *client = &clients[fd - CLIENT];
    short is = client->output ? POLLOUT : 0;
    if ( client->unread )
        return is | POLLIN;
    return client->gone ? POLLIN | POLLHUP : is;
}

int poll(struct pollfd *fds, nfds_t many, int timeout)
{
    for ( ;; )
    {
        int found = 0;
        for ( nfds_t i = 0; i < many; i++ )
        {
            fds[i].revents = ready(fds[i].fd) & (fds[i].events | POLLHUP);
            found += fds[i].revents != 0;
        }
        minutes++;
        if ( found || timeout >= 0 )
            return found;
        swapcontext(&xenstored, &driver);
    }
}

/* Xen's libraries */

xc_interface *xc_interface_open(void *logger, void *other, unsigned int flags) { return (void *)1; }
int xc_interface_close(xc_interface *xch) { return 0; }

int xc_domain_getinfo(xc_interface *xch, uint32_t domid, unsigned int most, xc_dominfo_t *info)
{
    if ( domid >= DOMAINS || guests[domid].life == ABSENT )
        return 0;
    enum life life = guests[domid].life;
    *info = (xc_dominfo_t){ domid, .dying = life == DYING, .shutdown = life >= SHUT_DOWN };
    return 1;
}

xengnttab_handle *xengnttab_open(struct xentoollog_logger *logger, unsigned int flags)
{
    return (void *)1;
}
int xengnttab_close(xengnttab_handle *xgt) { return 0; }
int xengnttab_set_max_grants(xengnttab_handle *xgt, uint32_t most) { return 0; }

void *xengnttab_map_grant_ref(xengnttab_handle *xgt, uint32_t domid, uint32_t ref, int access)
{
    errno = EINVAL;
    if ( domid >= DOMAINS || guests[domid].life == ABSENT )
        return NULL;
    guests[domid].mapped = true;
    return guests[domid].page;
}

int xengnttab_unmap(xengnttab_handle *xgt, void *page, uint32_t many)
{
    for ( unsigned int i = 0; i < DOMAINS; i++ )
        if ( page == guests[i].page )
            guests[i].mapped = false;
    return 0;
}

void *xenbus_map(void)
{
    guests[0].mapped = true;
    return guests[0].page;
}
void unmap_xenbus(void *page) { guests[0].mapped = false; }
evtchn_port_t xenbus_evtchn(void) { return FIRST_PORT; }

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger, unsigned int flags)
{
    return (void *)1;
}
xenevtchn_handle *xenevtchn_fdopen(struct xentoollog_logger *logger, int fd, unsigned int flags)
{
    return (void *)1;
}
int xenevtchn_fd(xenevtchn_handle *xce) { return EVENTS; }

int xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t port)
{
    errno = EINVAL;
    return 0;
}

int xenevtchn_unbind(xenevtchn_handle *xce, evtchn_port_t port) { return 0; }
int xenevtchn_unmask(xenevtchn_handle *xce, evtchn_port_t port) { return 0; }

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *xce, unsigned int which)
{
    return VIRQ_PORT;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce, uint32_t domid,
                                                    evtchn_port_t port)
{
    return FIRST_PORT + domid;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *xce)
{
    if ( virq )
    {
        virq = false;
        return VIRQ_PORT;
    }
    for ( unsigned int i = 0; i < DOMAINS; i++ )
        if ( guests[i].kicked )
        {
            guests[i].kicked = false;
            return FIRST_PORT + i;
        }
    return -1;
}

/* What a program does to it. Each gives false once it has crashed. */

int xenstored_main(int argc, char *argv[]);
extern void (*xprintf)(const char *format, ...);

static int arguments;
static char **options;

static void run(void)
{
    xprintf = say_nothing;
    optind = 0;
    xenstored_main(arguments, options);
    abort();
}

static bool go_on(void)
{
    if ( !*stored_crash )
        swapcontext(&driver, &xenstored);
    return !*stored_crash;
}

API bool stored_begin(int argc, char **argv)
{
    guests[0].life = RUNNING;
    arguments = argc;
    options = argv;
    getcontext(&xenstored);
    xenstored.uc_stack.ss_sp = stack;
    xenstored.uc_stack.ss_size = sizeof(stack);
    xenstored.uc_link = NULL;
    makecontext(&xenstored, run, 0);
    return go_on();
}

API bool stored_connect(unsigned int which)
{
    clients[which].open = true;
    return go_on();
}

API bool stored_ask(unsigned int which, const char *data, size_t size, bool then_goes)
{
    struct client *client = &clients[which];
    if ( !client->open )
        return !*stored_crash;
    client->input = data;
    client->unread = size;
    client->gone = then_goes;
    return go_on();
}

/* All there is to the client; how many bytes. */
API long stored_take(unsigned int which, char *into, size_t room)
{
    struct client *client = &clients[which];
    if ( !client->open )
        return *stored_crash ? -1 : 0;
    client->output = into;
    client->room = room;
    client->written = 0;
    bool fine = go_on();
    client->output = NULL;
    return fine ? (long)client->written : -1;
}

API bool stored_is_open(unsigned int which) { return clients[which].open; }

API bool stored_domain(unsigned int domid, enum life life)
{
    if ( guests[domid].life == ABSENT )
        memset(guests[domid].page, 0, PAGE);
    guests[domid].life = life;
    if ( life == RUNNING )
        return !*stored_crash;
    virq = true;
    return go_on();
}

API char *stored_page(unsigned int domid)
{
    return guests[domid].mapped ? guests[domid].page : NULL;
}

API bool stored_kick(unsigned int domid)
{
    guests[domid].kicked = true;
    return go_on();
}

/* Whether it has read a part of a domain's request. */
API bool stored_is_reading(void)
{
    struct connection *conn;
    list_for_each_entry(conn, &connections, list)
        if ( conn->domain && conn->in )
            return true;
    return false;
}

/* Whose connection comes after that of a client, or of dom0's ring for -1; -1 if it is nobody's. */
API int stored_next(int client)
{
    struct connection *conn;
    list_for_each_entry(conn, &connections, list)
        if ( client < 0 ? conn->domain && !conn->id : conn->fd == CLIENT + client )
        {
            struct connection *next = list_entry(conn->list.next, struct connection, list);
            return &next->list == &connections || !next->domain ? -1 : (int)next->id;
        }
    return -1;
}

/* The tree: of each node its path, generation, permissions, value, children. */

static char *dump_into;

static void dump(const void *what, size_t size)
{
    uint32_t length = size;
    memcpy(dump_into, &length, sizeof(length));
    memcpy(dump_into + sizeof(length), what, size);
    dump_into += sizeof(length) + size;
}

static int dump_node(const void *ctx, struct connection *conn, struct node *node, void *arg)
{
    dump(node->name, strlen(node->name));
    dump(&node->generation, sizeof(node->generation));
    dump(node->perms.p, node->perms.num * sizeof(*node->perms.p));
    dump(node->data, node->datalen);
    dump(node->children, node->childlen);
    return WALK_TREE_OK;
}

API size_t stored_tree(char *into)
{
    struct walk_funcs walk = { .enter = dump_node };
    dump_into = into;
    walk_node_tree(NULL, NULL, "/", &walk, NULL);
    return dump_into - into;
}
