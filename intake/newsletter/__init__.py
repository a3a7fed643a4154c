"""The newsletter: asked for with an email address only, confirmed by mail, left with one click."""
