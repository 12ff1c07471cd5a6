"""Priors over the tokens of a finished tokenizer: data, training, bits, and the graph to serve."""
