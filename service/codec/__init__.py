"""From the bytes of a body to a prediction request, and from predictions back to bytes.

Imports columns, problems and artifact. Start at body.py, then json_request.py and npy.py.
"""
