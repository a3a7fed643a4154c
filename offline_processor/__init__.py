"""The offline room: the only place where an order is read and a card is charged."""
