"""Block devices between domains, compatible with Linux's xen-blkfront and xen-blkback."""
