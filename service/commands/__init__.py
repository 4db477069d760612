"""The commands of `python -m service`: serve, check, smoke, drain, healthcheck.

Imports everything below; nothing but __main__.py imports it. Start at the module with the command's name.
"""
