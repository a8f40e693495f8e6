"""A company's network: its proxy, its certificates, and a house with nobody in it."""
