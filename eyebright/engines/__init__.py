"""Engines: what answers in the place of a classifier's network, faster, within a stated tolerance."""
