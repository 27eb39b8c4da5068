"""Synchronised data: what each provider contributes to the zones, and how far every record has come."""
