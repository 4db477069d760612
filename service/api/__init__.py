"""The HTTP API: routes, the fast path of POST /predict, problem responses, the access log.

Imports feedback, inference and observability; Flask is imported here only. Start at app.py, then predict.py.
"""
