"""The applications that the service is compared with, each for plain Gunicorn."""
