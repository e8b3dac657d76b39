"""Images from disk to batches on a device."""
