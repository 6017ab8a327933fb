"""Where things are in xenstore. Source: docs/misc/xenstore-paths.pandoc.

Each domain has a home, in which the toolstack says what it has. The two ends of a device have a
folder each: the front end's by its kind and its number, the back end's also by the other's domid.
"""

HOMES = "/local/domain"


def home(domid: int) -> str:
    """The home of a domain, where its relative paths begin: `/local/domain/3`."""
    return f"{HOMES}/{domid}"


def front_ends(domid: int, kind: str) -> str:
    """Where a domain's front ends of this kind are, by devid."""
    return f"{home(domid)}/device/{kind}"


def back_ends(domid: int, kind: str) -> str:
    """Where the back ends of this kind are that a domain serves, by the other domid and devid."""
    return f"{home(domid)}/backend/{kind}"
