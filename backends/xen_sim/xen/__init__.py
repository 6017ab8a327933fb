"""Xen itself, one file for each of its own. A guest comes in by `hypercall` alone.

hypervisor, domain, vcpu            struct domain and struct vcpu
hypercall                           the door
channel, event_channel              ports, and the operations on them (event_channel.c)
event_2l, event_fifo                the two ABIs by which a guest is told (event_*.c)
delivery                            how a vCPU is interrupted: vector, callback, PV
timer                               set_timer_op and VCPUOP_*_timer
grant_table, gnttab_op              entries and their use; hypercall 20
shared_pages                        what Linux's drivers make of grants
store_link                          the way to xenstored
"""
