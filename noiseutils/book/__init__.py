"""Render notebooks and the pages around them."""
