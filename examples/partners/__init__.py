"""Connectors for three systems that partners have: a chat, a CRM, a PCRF. Each is one short module."""
