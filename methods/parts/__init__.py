"""What several papers share: networks, losses, memories, samplers, views."""
