"""The pages that customers meet: shop front, basket, checkout and status."""
