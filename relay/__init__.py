"""The relay: carries connections of known clients to mail servers on its list, and of nobody else to nowhere else.

Deployed alone on an egress host: needs Python, this package, config.py and engine's wire-level modules, nothing more.
Order that always holds: token, allow-list, name, address, dial, TLS hello; the first step that fails ends it (facts: relay 2).
"""
