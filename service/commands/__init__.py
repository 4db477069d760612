"""The commands of `python -m service`: serve, check, smoke, drain, healthcheck; each module has a function `run`.

Imports everything below. Only __main__.py imports it, and a command's module only after it set the thread budget.
Start at the module with the command's name.
"""
