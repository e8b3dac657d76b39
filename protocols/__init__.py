"""What is measured, and on what: data sets, protocols, metrics, synthetic twins."""
