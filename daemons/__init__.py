"""The daemons: thin shells around the nodes of :mod:`mpcore.node`, one console script each."""
