"""What `python -m training` can do: a function for each command."""
