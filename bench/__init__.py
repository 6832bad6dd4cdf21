"""Measures the mover beside its peers and beside what the machine can do at most: times as ratios within one run, memory at its peak.

Nothing here is a test: a time is never asserted. Whatever it needs (corpora, servers, delays, the judge) it makes itself. It may
import engine, portal.demo and (kills.py) the tests' servers and proxies; nothing imports it but its own tests.
"""
