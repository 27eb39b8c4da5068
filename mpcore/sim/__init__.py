"""Simulation: the nodes of :mod:`mpcore.node` on a virtual clock and an in-memory network."""
