"""Recipes that ship with eyebright: one TOML file each."""
