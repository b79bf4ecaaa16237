"""Results of every command that measures something: estimates with intervals, and the chance level next to them."""
