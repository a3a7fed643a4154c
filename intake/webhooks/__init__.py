"""Telling a shop's own server of changes of status: signed messages by the Standard Webhooks specification."""
