"""A connector for PortaOne NSPS."""
