"""The measurements that make bench prints."""
