"""What a processor does. Knows no Xen.

    memory    frames; loads and stores, and the instructions that lock the bus
    apic      a local APIC: what is requested, what is in service
    cpu       the interrupt flag, the shadow of sti, hlt, the gate an interrupt enters by

Each has a plain form, which costs nothing, and a stepped one, which gives way before every use.
"""
