"""Stand-ins for both products over real HTTP. They share no parsing, signing or reading code with the connectors."""
