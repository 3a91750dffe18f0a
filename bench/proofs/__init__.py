"""What `make prove` proves, each proof a function of its size: the tests call the small ones."""
