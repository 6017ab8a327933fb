/* What a C program reaches with libxenevtchn, which reads and unmasks one event at a time.
 * Prints round trips a second between two ports of this domain, then the milliseconds it takes to
 * receive 1,024 events. Build: cc -O2 linux_rates.c -lxenevtchn */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <xenevtchn.h>

enum { PORTS = 1024, ROUNDS = 2000 };

static xenevtchn_handle *events;

static int check(int result)
{
    if (result < 0) {
        perror("xenevtchn");
        exit(1);
    }
    return result;
}

/* Take one event, and let its port fire again. */
static evtchn_port_t receive(void)
{
    evtchn_port_t port = check(xenevtchn_pending(events));
    check(xenevtchn_unmask(events, port));
    return port;
}

/* A port connected to another one of this domain: notify it, and the other one fires. */
static evtchn_port_t connected(void)
{
    evtchn_port_t port = check(xenevtchn_bind_unbound_port(events, 0));
    check(xenevtchn_bind_interdomain(events, 0, port));
    receive();
    return port;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

int main(void)
{
    evtchn_port_t ports[PORTS];
    double began;

    if (!(events = xenevtchn_open(NULL, 0)))
        check(-1);
    for (int i = 0; i < PORTS; i++)
        ports[i] = connected();

    began = seconds();
    for (int i = 0; i < ROUNDS; i++) {
        check(xenevtchn_notify(events, ports[0]));
        check(xenevtchn_notify(events, receive()));
        receive();
    }
    printf("%.0f ", ROUNDS / (seconds() - began));

    for (int i = 0; i < PORTS; i++)
        check(xenevtchn_notify(events, ports[i]));
    began = seconds();
    for (int i = 0; i < PORTS; i++)
        receive();
    printf("%.2f\n", (seconds() - began) * 1e3);
    return 0;
}
