"""The ring of requests and responses that split drivers share.

Source: xen/include/public/io/ring.h, struct <name>_sring.
"""

REQ_PROD = 0
"""u32: requests produced, by the front end."""
REQ_EVENT = 4
"""u32: the back end wants to be notified when REQ_PROD passes this."""
RSP_PROD = 8
"""u32: responses produced, by the back end."""
RSP_EVENT = 12
"""u32: the front end wants to be notified when RSP_PROD passes this."""
ENTRIES = 64
"""Where the entries begin; a response takes the place of a request that was consumed."""
