/* As much of libxenctrl as xenstored asks for. It stands before Xen's own header, which wants others
 * that are only made when all of Xen is built. */
#ifndef XENCTRL_H
#define XENCTRL_H

#include <inttypes.h>
#include <stdbool.h>
#include <xen/event_channel.h>
#include <xen/xen.h>

typedef struct xc_interface_core xc_interface;

typedef struct {
    uint32_t domid;
    bool dying, crashed, shutdown;
} xc_dominfo_t;

xc_interface *xc_interface_open(void *logger, void *dombuild_logger, unsigned int flags);
int xc_interface_close(xc_interface *xch);
int xc_domain_getinfo(xc_interface *xch, uint32_t first, unsigned int most, xc_dominfo_t *info);

#define xen_mb() __sync_synchronize()
#define xen_wmb() __sync_synchronize()

#endif
