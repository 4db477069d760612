"""What runs once, before the image is sealed: fits an estimator, proves it, and writes the artifact."""
