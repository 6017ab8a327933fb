/* How fast bytes go through a vchan from a guest to dom0, on Xen's own library.
 *
 *   vchan_rates client DOMID PATH SIZE TOTAL         write TOTAL bytes, SIZE at a time
 *   vchan_rates server DOMID PATH SIZE TOTAL RING    read them, SIZE at most at a time
 *
 * The server prints how many seconds passed from the first byte to the last.
 */
#include <libxenvchan.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static int give(struct libxenvchan *vchan, char *data, size_t size, long left)
{
    for (; left > 0; left -= size)
        if (libxenvchan_write(vchan, data, size) != (int)size)
            return 1;
    while (libxenvchan_is_open(vchan) == 1) /* the server closes first */
        libxenvchan_wait(vchan);
    return 0;
}

static int take(struct libxenvchan *vchan, char *data, size_t size, long left)
{
    double began = 0;
    while (left > 0) {
        int count = libxenvchan_read(vchan, data, size);
        if (count <= 0)
            return 1;
        if (!began)
            began = now();
        left -= count;
    }
    printf("%.6f\n", now() - began);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 6)
        return 2;
    int server = !strcmp(argv[1], "server"), domid = atoi(argv[2]);
    size_t size = atol(argv[4]);
    struct libxenvchan *vchan =
        server ? libxenvchan_server_init(NULL, domid, argv[3], atol(argv[6]), 0)
               : libxenvchan_client_init(NULL, domid, argv[3]);
    char *data = calloc(1, size);
    if (!vchan || !data) {
        perror("libxenvchan");
        return 1;
    }
    vchan->blocking = 1;
    int status = (server ? take : give)(vchan, data, size, atol(argv[5]));
    libxenvchan_close(vchan);
    return status;
}
