"""The family `compact`: the generators that this project trains, some of which ship with it."""
