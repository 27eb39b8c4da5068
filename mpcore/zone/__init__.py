"""Zones as wire octets: owners, RRsets, immutable versions, master files, transfers, answers, roles.

Nothing in this package reads a clock, a socket, a file's time or a random source; time comes in as an argument.
"""
