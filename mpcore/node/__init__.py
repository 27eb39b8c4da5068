"""The roles assembled: machines, network, store and clock brought together, everything injected."""
