"""The Gunicorn server: its processes, connections, drain, health port and TLS.

Imports api and what it imports; Gunicorn is imported here only. Start at application.py, then worker.py.
composition.py builds everything that a serving process works with; drain.py is what SIGTERM begins.
"""
