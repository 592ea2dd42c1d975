"""What an operator does: one typed service (``service``) and its faces, such as the command line.

A face has no rule of its own; no SQL, and nothing of HTTP's server, is here.
"""
