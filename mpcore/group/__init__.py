"""Provider groups: who serves zones together, what they say about each other, and whom they elect.

Pure machines: events and the time in, actions out.
"""
