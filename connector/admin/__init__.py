"""What an operator does: one typed service and its faces, such as the command line. A face has no rule of its own."""
