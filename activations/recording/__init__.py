"""Record what a domain takes in on a real Xen; replay it in any process.

    form      the file: a header, frames of events, an end
    journal   the events of a run, in order: noted, or read back and compared
    seam      the lower half that goes by a journal
    loop      its loop, and what may be registered with it
    connection, table    its connection to xenstored, its grant table
    memory    pages as the domain sees them, read by read
    chance    random, time and the like by the journal

    session    a program under the one, and under the other

All that a program does is asked of its lower half, and all that it learns comes from there, or from
`chance`. So one class stands at that seam in both: with a `Noting` journal it asks a real lower
half and notes the answer; with a `Reading` one it asks nothing below, the question is compared with
the one that was noted, and the answer is that one. The two cannot disagree on what is noted.
"""
