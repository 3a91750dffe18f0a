"""The building blocks by hand: slow, written from the definitions, to learn from and to check the fast ones against."""
