"""python -m tools.bench: what a prediction costs, against a constant answer and against the textbook's service.

Every number is of this machine at this moment; only ratios taken within one run travel. So cases are measured in turns
(A B C A B C ...), a ratio is the median of the ratios of each turn, and what counts is the CPU time of all processes of
a server, which a busy machine changes least. Every answer is compared with the one that the estimator gives.
"""
