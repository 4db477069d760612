"""What runs once, before an image is built: it fits or reads an estimator, checks it, and writes its artifact.

Imports artifact, columns and engines of the service, never the web server. Start at commands.py, then bake.py.
"""
