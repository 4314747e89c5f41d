"""A Hugging Face hub on this machine: the API, the file origin and its CDN, with faults on demand.

The real hub cannot be asked to stall, to cut a stream or to flip a byte; this one can, and it serves
files of gigabytes with two cores.
"""
