"""What a call or an hour costs, and where that price is from."""
