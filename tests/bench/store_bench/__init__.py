"""Parts of the store's benchmark; `tests/bench/store.py` runs them."""
