"""What a classifier's answers are worth: logits of a data set, and the figures made from them."""
