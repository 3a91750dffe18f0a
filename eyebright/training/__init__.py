"""Recipes, the training loop, and the run folder that keeps what happened."""
