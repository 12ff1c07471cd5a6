"""How good samples are: the features of a classifier trained here, and how far apart they lie."""
