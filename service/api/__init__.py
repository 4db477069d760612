"""The HTTP API: routes, the fast path of POST /predict, and the middleware around both.

Imports feedback, inference and observability; Flask is imported here only. Start at app.py, then predict.py.
problem_response.py turns errors into responses; observability/logging.py writes the access log line.
"""
