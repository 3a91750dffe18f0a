"""What is wrong with data: label errors, duplicates, leakage, odd pictures, drift."""
