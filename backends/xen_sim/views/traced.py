"""Moments from a trace: its lines, with the names of ports, and what became of each event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from xen_sim.explore.report import DEMUX, NOTIFY, WAKE, Moment

PENDING, CLEAR, UNBOUND, CLOSED = "pending", "clear", "unbound", "closed"
"""States of a port, as far as a trace tells."""

Port = tuple[str, int]
"""A domain's name and a port of its own."""

_SAID = ("ns", "domain", "vcpu", "what", "domid", "realtime")
"""What a moment says elsewhere than in its `what`."""


def actors(events: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """vCPUs in the order in which they first did something."""
    return tuple(dict.fromkeys(_actor(event) for event in events))


def moments(events: Iterable[Mapping[str, Any]]) -> list[Moment]:
    """A moment for each line."""
    reading = _Reading()
    return [reading.moment(event) for event in events]


class _Reading:
    """What a trace has said so far."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        """Domains by domid."""
        self._peers: dict[Port, Port] = {}
        self._states: dict[Port, str] = {}

    def moment(self, event: Mapping[str, Any]) -> Moment:
        before = dict(self._states) if event["what"] in ("suspend", "end") else None
        happened, changed = self._happened(event)
        if before is not None:
            changed = [port for port in before if self._states[port] != before[port]]
        return Moment(
            _actor(event),
            _what(event),
            ns=event["ns"],
            events=tuple((kind, _named(port)) for kind, port in happened),
            changes=tuple((_named(port), self._states[port]) for port in changed),
        )

    def _happened(self, event: Mapping[str, Any]) -> tuple[list[tuple[str, Port]], list[Port]]:
        """What became of which events, and which ports changed."""
        domain, what = event["domain"], event["what"]
        port: Port = (domain, event.get("port", 0))
        match what:
            case "start":
                self._names[event.get("domid", len(self._names))] = domain
            case "alloc_unbound":
                return [], self._set(port, UNBOUND)
            case "bind_interdomain":
                peer = (self._names.get(event["remote"], "?"), event["remote_port"])
                self._peers |= {port: peer, peer: port}
                return [(NOTIFY, port)], [*self._set(port, PENDING), *self._set(peer, CLEAR)]
            case "send":
                return self._sent(self._peers.get(port))
            case "demux":
                return [(DEMUX, port)], self._set(port, CLEAR)
            case "wake":
                return [(WAKE, port)], []
            case "close":
                return [], self._close(port)
            case "suspend" | "end":
                for each in [each for each in self._states if each[0] == domain]:
                    self._close(each)
        return [], []

    def _sent(self, to: Port | None) -> tuple[list[tuple[str, Port]], list[Port]]:
        if to is None or self._states.get(to) == PENDING:
            return [], []
        return [(NOTIFY, to)], self._set(to, PENDING)

    def _set(self, port: Port, state: str) -> list[Port]:
        if self._states.get(port) == state:
            return []
        self._states[port] = state
        return [port]

    def _close(self, port: Port) -> list[Port]:
        """The other end can be bound again."""
        peer = self._peers.pop(port, None)
        changed = self._set(port, CLOSED)
        if peer is not None and self._peers.pop(peer, None) is not None:
            changed += self._set(peer, UNBOUND)
        return changed


def _actor(event: Mapping[str, Any]) -> str:
    vcpu = event.get("vcpu", 0)
    return f"{event['domain']}.{vcpu}" if vcpu else str(event["domain"])


def _named(port: Port) -> str:
    return f"{port[0]} port {port[1]}"


def _what(event: Mapping[str, Any]) -> str:
    """`send port 3`, `bind_interdomain port 3, remote 0, remote_port 2`."""
    details = [f"{key} {value}" for key, value in event.items() if key not in _SAID]
    return " ".join((event["what"], ", ".join(details))).rstrip()
