"""The Gunicorn server: its processes, connections, health port and TLS.

Imports api and what it imports; Gunicorn is imported here only. Start at application.py, then worker.py.
"""
