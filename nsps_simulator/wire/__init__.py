"""What is sent: subscribers, their events, the requests that carry them, and what goes wrong on the way."""
