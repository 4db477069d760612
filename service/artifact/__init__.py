"""The artifact: manifest, contract and reference distributions, each format with its writer and its reader.

Imports nothing of the other packages. Start at manifest.py, then reader.py (verify) and writer.py.
"""
