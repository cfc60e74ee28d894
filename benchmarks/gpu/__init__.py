"""What a machine with one GPU, lent for some minutes, does: `python -m benchmarks.gpu`.

`stages` says what there is to do, `jobs` runs it side by side until a deadline, `networks` and `draws` are the processes that it
starts, `home` packs what is worth keeping, `parts` sends large data in parts, and `merge` puts results where they belong.
"""
