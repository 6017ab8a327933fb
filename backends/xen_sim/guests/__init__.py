"""What runs on a vCPU. Knows of Xen what any guest knows: memory, and the hypercalls.

platform, hypercalls    what a guest sees of the machine
kernel                  the contract of a lower half
upcalls                 a guest's side of delivery
solo5, solo5_2020, mini_os, linux_2l, linux_fifo, freebsd    lower halves
plain                   a plain function on a vCPU, without asyncio
asyncio_guest           an event loop's `LowerHalf` over a kernel: the only one that knows asyncio
"""
