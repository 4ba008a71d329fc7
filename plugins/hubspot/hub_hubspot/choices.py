"""What a recipe's author may choose from in an account."""
