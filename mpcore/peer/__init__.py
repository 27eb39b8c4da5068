"""Peers: how they are found, greeted and watched, and how messages reach them in order.

Pure machines: events and the time in, actions out.
"""
