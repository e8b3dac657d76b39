"""What is benchmarked: methods, and the clustering core that they share."""
