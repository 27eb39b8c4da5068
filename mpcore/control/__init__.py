"""The control API: typed models, the service interface, the event stream, the client.

Nothing is imported here, so that a reader of one part does not pay for the others: a command line needs
:mod:`mpcore.control.models` and :mod:`mpcore.control.client`, a node :mod:`mpcore.control.service` and
:mod:`mpcore.control.events`.
"""
