"""Synthetic series without end: what the network for any table learned from."""
