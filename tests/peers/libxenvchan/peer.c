/* A vchan end on Xen's own library, for test_vchan_libxenvchan.py.
 *
 *   peer server|client DOMID PATH LEFT RIGHT echo        send back all that comes, to the end
 *   peer server|client DOMID PATH LEFT RIGHT echo COUNT  send back COUNT bytes, and close
 *   peer server|client DOMID PATH LEFT RIGHT say COUNT   send COUNT bytes, each its place, and close
 *
 * LEFT and RIGHT are the least sizes of a server's rings. Prints how many bytes it sent.
 */
#include <libxenvchan.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long echo(struct libxenvchan *vchan, long total)
{
    static char buffer[100003];
    long sent = 0;
    int count;
    while (sent != total && (count = libxenvchan_read(vchan, buffer, sizeof buffer)) > 0) {
        if (libxenvchan_write(vchan, buffer, count) != count)
            return -1;
        sent += count;
    }
    return sent;
}

static long say(struct libxenvchan *vchan, long total)
{
    char byte;
    for (long at = 0; at < total; at++) {
        byte = (char)at;
        if (libxenvchan_write(vchan, &byte, 1) != 1)
            return -1;
    }
    return total;
}

int main(int argc, char **argv)
{
    if (argc < 7)
        return 2;
    int server = !strcmp(argv[1], "server"), domid = atoi(argv[2]);
    struct libxenvchan *vchan =
        server ? libxenvchan_server_init(NULL, domid, argv[3], atol(argv[4]), atol(argv[5]))
               : libxenvchan_client_init(NULL, domid, argv[3]);
    if (!vchan) {
        perror("libxenvchan");
        return 1;
    }
    vchan->blocking = 1;
    if (server)
        while (libxenvchan_is_open(vchan) == 2)
            libxenvchan_wait(vchan);
    long total = argc > 7 ? atol(argv[7]) : -1;
    printf("%ld\n", strcmp(argv[6], "echo") ? say(vchan, total) : echo(vchan, total));
    libxenvchan_close(vchan);
    return 0;
}
