"""Training of tokenizers: data, objectives, loop, evaluation, export.

`python -m training --help`.
"""
