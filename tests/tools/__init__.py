"""The programs that some tests need and this project does not bring: which, where, and how to get them."""
