"""What speaks HTTP to NSPS: accepting, routes, tokens, health, answers. No other room knows a status code of ours."""
