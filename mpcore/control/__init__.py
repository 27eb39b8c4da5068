"""The control API: typed models, the event stream, the client."""
