"""What is wrong with the data themselves: the same picture twice, and a picture of one part in another."""
