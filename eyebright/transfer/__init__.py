"""Classifiers from networks that were trained on other pictures."""
