"""What operators see: metrics, logs, traces, drift counters and the prediction log.

Imports artifact, host and columns. Start at metric_definitions.py and logging.py.
"""
