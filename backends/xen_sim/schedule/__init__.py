"""Who goes next. Knows no Xen and no asyncio.

step         what is about to be done, and to what
tape         what answers where it could go either way
clock        the two clocks, and the calendar of what happens when
kept         what the thread keeps for who sleeps
scheduler    who runs, who sleeps, and how the processor passes from one to the next
"""
