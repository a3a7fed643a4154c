"""What a customer may refuse: advertising with its cookie, and the memory of records looked at."""
