"""What can be seen in a network: each module has a function that returns plain data, and one that draws it."""
