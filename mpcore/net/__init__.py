"""Input and output: listeners, the DNS client, zone transfers, NOTIFY, secondary zones and the resolver.

Everything here talks through :class:`mpcore.net.network.Network`, which the simulator replaces, and tells the time
through :class:`mpcore.net.clock.Clock`.  Host names are never looked up here: addresses are numeric.
"""
