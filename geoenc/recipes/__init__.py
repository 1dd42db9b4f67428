"""Recipes: functions and a config. Nothing in the library imports them; copy one and edit it."""
